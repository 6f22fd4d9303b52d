"""Features and heads as files, for those who run the stages one by one."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from finicky.backbones import Backbone, load_backbone
from finicky.data.folders import read_class_folders
from finicky.errors import DataError, UsageError, nearest_names
from finicky.files import atomic_path
from finicky.progress import Progress, silent
from finicky.pruning import restore
from finicky.spool import Spool
from finicky.training.features import Features, extract, read_tiles
from finicky.training.head import LogisticHead, train_head

SPLITS = ("train", "validation", "test")


def write_features(
    model: str | Path,
    tiles: Path,
    out: Path,
    *,
    kind: str = "mean+max",
    tile: int = 96,
    target: str = "crack",
    weights: str | Path | None = None,
    arch: str | None = None,
    preprocessing: str | None = None,
    split_file: Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[int, int]:
    """Vectors of every tile of class folders to an ``.npz``; returns how many, and their length.

    Args:
        model: Folder of a pruned network (``plan.json``), a backbone's name or folder.
        tiles: Class folders; see `read_class_folders`.
        out: Gets ``features (N, D)``, ``labels``, ``groups``, ``splits`` and ``files``.
        kind: See `Features`.
        tile: Side in px that tiles are brought to.
        target: The class with label 1.
        weights: See `load_backbone`, as for ``arch`` and ``preprocessing``.
        split_file: See `read_class_folders`.
        seed: Of the splits, where the folders have none.
        progress: Told of each tile and batch.
    """
    pooling = Features(kind)  # type: ignore[arg-type]
    backbone = load_model(model, weights=weights, arch=arch, preprocessing=preprocessing)
    backbone.check_size(tile)
    samples = read_class_folders(tiles, split_file=split_file, seed=seed).samples
    labels = sorted({s.label for s in samples})
    if target not in labels:
        raise UsageError(f"{tiles} has no class {target!r}. {nearest_names(target, labels)}")
    with Spool() as pixels, Spool() as rows:
        photos = read_tiles([s.path for s in samples], pixels, size=tile, progress=progress)
        vectors = extract(backbone, photos, rows, kind=pooling.kind, progress=progress)
        with atomic_path(out) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                features=vectors,
                labels=np.array([int(s.label == target) for s in samples]),
                groups=np.array([s.group for s in samples]),
                splits=np.array([s.split for s in samples]),
                files=np.array([s.path.name for s in samples]),
            )
        return vectors.shape[0], vectors.shape[1]


def load_model(
    model: str | Path,
    *,
    weights: str | Path | None = None,
    arch: str | None = None,
    preprocessing: str | None = None,
) -> Backbone:
    """A pruned network from its folder, or an unpruned one by name or file."""
    if Path(model, "plan.json").is_file():
        return restore(Path(model))[0]
    return load_backbone(model, weights=weights, arch=arch, preprocessing=preprocessing)


def train_from_file(vectors: Path, *, seed: int = 0) -> LogisticHead:
    """Train on the rows of split ``train``."""
    features, labels, groups = _rows(vectors, "train")
    return train_head(features, labels, groups, seed=seed)


def predict_from_file(
    vectors: Path, head: Path, split: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities of the target and groups of a split's rows."""
    if split not in SPLITS:
        raise UsageError(f"no split named {split!r}. {nearest_names(split, SPLITS)}")
    features, labels, groups = _rows(vectors, split)
    loaded = LogisticHead.load(head)
    if loaded.weight.shape[0] != features.shape[1]:
        raise DataError(
            f"{head} expects vectors of {loaded.weight.shape[0]} numbers, {vectors} holds "
            f"{features.shape[1]}: they come from different networks or --features"
        )
    return labels, loaded.probabilities(features), groups


def _rows(path: Path, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            rows = file["splits"] == split
            found = file["features"][rows], file["labels"][rows], file["groups"][rows]
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise DataError(f"{path} was not written by finicky features: {error}") from error
    if not len(found[0]):
        raise DataError(f"{path} has no rows of split {split}")
    return found
