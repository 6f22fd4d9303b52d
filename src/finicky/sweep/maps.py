"""The chosen candidate's pixel head: trained once, kept beside the candidate, copied when chosen.

It lies in ``candidates/<id>/map/``: ``pixel_head.safetensors``, ``model.onnx`` with both outputs,
and, last, ``map.json``, which vouches for them and for the weights they were made from.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.data import crops
from finicky.data.folders import read_class_folders
from finicky.data.splits import SPLITS
from finicky.errors import DataError, FinickyError
from finicky.export import HEAD_TOLERANCE, Classifier, export_map, read_metadata
from finicky.files import atomic_path, read_json, sha256_file, write_json
from finicky.images import read_image, resize_image
from finicky.mapping import train_map
from finicky.progress import Progress, silent
from finicky.project import Project
from finicky.pruning import restore
from finicky.sweep.folder import HEAD, METRICS, ONNX, RUN, RunFolder
from finicky.sweep.inputs import Evidence
from finicky.sweep.settings import SweepSettings
from finicky.sweep.trained import MASK_HEAD
from finicky.training import LogisticHead, PixelHead, PixelSettings

MAP, PIXEL_HEAD = "map.json", "pixel_head.safetensors"
PARITY_TILES = 96


@dataclass(frozen=True)
class Mapped:
    """Where a candidate's pixel head lies, or why it has none.

    Attributes:
        folder: Of the map; ``None`` where there is none.
        facts: What ``map.json`` holds.
        reason: Why there is none.
    """

    folder: Path | None = None
    facts: dict[str, Any] | None = None
    reason: str | None = None


def keep_crops(
    project: Project,
    evidence: Evidence,
    settings: SweepSettings,
    folder: RunFolder,
    *,
    progress: Progress = silent,
) -> None:
    """Copy what pixel heads need into the run, so that choosing again needs no project."""
    if not (folder.crops / crops.TABLE).is_file():
        crops.write_crops(
            evidence.usable,
            folder.crops,
            classes=project.classes,
            targets=evidence.targets,
            splits=evidence.splits,
            tile=settings.tile,
            progress=progress,
        )


def make_map(folder: RunFolder, name: str, *, progress: Progress = silent) -> Mapped:
    """Train a candidate's pixel head, or find the one that an earlier choice trained.

    A network or photos that allow none are no error: the reason is returned.
    """
    if not (folder.crops / crops.TABLE).is_file():
        return Mapped(reason="the run was made without maps, or before there were any")
    here = folder.candidate(name) / "map"
    facts = _finished(folder.candidate(name), here)
    if facts is None:
        try:
            facts = _train(folder, name, here, progress)
        except FinickyError as error:
            return Mapped(reason=str(error))
    return Mapped(here, facts)


def add_map(selected: Path, mapped: Mapped) -> None:
    """Put a map's files into ``selected/``; its ``model.onnx`` replaces the one without a map."""
    if mapped.folder is None:
        return
    for name in (PIXEL_HEAD, ONNX, MAP):
        with atomic_path(selected / name) as temporary:
            shutil.copyfile(mapped.folder / name, temporary)
    metrics = read_json(selected / METRICS)
    metrics["files"][ONNX] = sha256_file(selected / ONNX)
    write_json(selected / METRICS, metrics | {"map": mapped.facts})


def _train(folder: RunFolder, name: str, here: Path, progress: Progress) -> dict[str, Any]:
    candidate = folder.candidate(name)
    settings = read_json(folder.root / RUN)["conditions"]
    size = int(settings["tile"])
    backbone, _ = restore(candidate)
    trained_with = candidate / MASK_HEAD
    trained = train_map(
        backbone,
        *(crops.read_crops(folder.crops, split) for split in SPLITS),
        size=size,
        settings=PixelSettings(seed=int(settings["seed"])),
        given=[PixelHead.load(trained_with)] if trained_with.is_file() else (),
        progress=progress,
    )
    note = read_metadata(candidate / ONNX)
    head = LogisticHead.load(candidate / HEAD)
    exported = export_map(
        lambda pixels: Classifier(backbone, settings["features"], head, pixels),
        trained.head,
        (trained.thresholds.high, trained.thresholds.low),
        here / ONNX,
        size=size,
        class_names=note["classes"],
        tiles=_tiles(folder, size),
        metadata=note | {"task": "classify+map", "map_px": trained.head.map_px},
        tolerance=HEAD_TOLERANCE,
    )
    exported.head.save(here / PIXEL_HEAD)
    facts = trained.to_json() | {
        "map_high": exported.high,
        "map_low": exported.low,
        "flattened": exported.flattened,
        "parity": asdict(exported.parity),
        "size_bytes": (here / ONNX).stat().st_size,
        "files": {file: sha256_file(here / file) for file in (PIXEL_HEAD, ONNX)},
        "weights_sha256": _weights(candidate),
    }
    write_json(here / MAP, facts)
    return facts


def _finished(candidate: Path, here: Path) -> dict[str, Any] | None:
    """The facts of a map that is whole and belongs to these weights."""
    if not (here / MAP).is_file():
        return None
    try:
        facts: dict[str, Any] = read_json(here / MAP)
        whole = all(
            (here / file).is_file() and sha256_file(here / file) == facts["files"][file]
            for file in (PIXEL_HEAD, ONNX)
        )
        return facts if whole and facts["weights_sha256"] == _weights(candidate) else None
    except (DataError, KeyError, TypeError):
        return None


def _weights(candidate: Path) -> list[str]:
    return [sha256_file(candidate / file) for file in ("model.safetensors", HEAD)]


def _tiles(folder: RunFolder, size: int) -> np.ndarray:
    samples = read_class_folders(folder.tiles).samples
    paths = [s.path for s in samples if s.split == "validation"]
    rows = np.linspace(0, len(paths) - 1, min(PARITY_TILES, len(paths))).astype(int)
    paths = [paths[i] for i in rows]  # spread: the first are of one class
    return np.stack([resize_image(read_image(path), size, size) for path in paths])
