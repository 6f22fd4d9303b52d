"""A finished candidate in a run folder: what an export is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.data.folders import Sample, read_class_folders
from finicky.errors import DataError, UsageError, nearest_names
from finicky.export.classifier import Classifier
from finicky.export.onnx_file import read_metadata
from finicky.files import read_json, sha256_file
from finicky.pruning import restore
from finicky.training import LogisticHead, PixelHead

RUN, METRICS, HEAD, MODEL = "run.json", "metrics.json", "head.safetensors", "model.onnx"
CHOICE, UNPRUNED = "choice.json", "keep-1"
MAP, PIXEL_HEAD = "map.json", "pixel_head.safetensors"


@dataclass(frozen=True)
class Source:
    """One candidate of a run, checked to be whole.

    Attributes:
        root: The run folder.
        folder: Of the candidate: ``selected/``, or one in ``candidates/``.
        candidate: Its name, as ``keep-0.2``.
        run: What ``run.json`` holds.
        metrics: What its ``metrics.json`` holds.
        unpruned: ``metrics.json`` of the unpruned network; ``None`` where the run has it no more.
        note: The ``finicky`` entry of its ``model.onnx``.
        map_folder: Where its pixel head lies; ``None`` where it has none.
        samples: All tiles of the run.
    """

    root: Path
    folder: Path
    candidate: str
    run: Mapping[str, Any]
    metrics: Mapping[str, Any]
    unpruned: Mapping[str, Any] | None
    note: Mapping[str, Any]
    map_folder: Path | None
    samples: tuple[Sample, ...]

    @property
    def model(self) -> Path:
        """The candidate's ONNX file, with a map where it has a pixel head."""
        return (self.map_folder or self.folder) / MODEL

    @property
    def unpruned_model(self) -> Path | None:
        """The unpruned network's ONNX file, if the run still has it."""
        path = self.root / "candidates" / UNPRUNED / MODEL
        return path if path.is_file() else None

    @property
    def tile(self) -> int:
        """Side of a tile in px."""
        return int(self.note["tile_px"])

    @property
    def threshold(self) -> float:
        """From which probability on a tile counts as target; 0.5 where an old run does not say."""
        return float(self.note.get("thresholds", {}).get("tile", 0.5))

    @property
    def target(self) -> str:
        """Name of the class that is looked for."""
        return str(self.note["classes"][1])

    def of(self, split: str) -> list[Sample]:
        """The tiles of a split, in order of their paths."""
        return [sample for sample in self.samples if sample.split == split]

    def labels(self, samples: list[Sample]) -> np.ndarray:
        """``(N,)`` int64, 1 = target."""
        names = set(self.run["conditions"]["targets"])
        return np.array([int(s.label in names) for s in samples], dtype=np.int64)

    def counts(self) -> dict[str, dict[str, int]]:
        """Tiles of target and of the rest, and photographs, in each split."""
        found = {}
        for split in ("train", "validation", "test"):
            samples = self.of(split)
            positive = int(self.labels(samples).sum())
            groups = len({s.group for s in samples})
            found[split] = {
                "target": positive,
                "other": len(samples) - positive,
                "photographs": groups,
            }
        return found


def open_source(run: Path, candidate: str | None = None) -> Source:
    """Find a candidate of a run and check that its files are those it was measured with.

    Args:
        run: Run folder.
        candidate: Name as in ``candidates/``; ``None``: the chosen one.

    Raises:
        UsageError: This is no run, or there is no such candidate.
        DataError: A file is missing or damaged.
    """
    root = Path(run)
    if not (root / RUN).is_file():
        raise UsageError(
            f"{root} holds no {RUN}: expected the folder of a run, as finicky run writes it"
        )
    folder = _folder(root, candidate)
    metrics = read_json(folder / METRICS)
    name = str(metrics["candidate"])
    if candidate is None and (folder / CHOICE).is_file():
        name = str(read_json(folder / CHOICE)["candidate"])
    _check_files(folder, metrics["files"])
    maps = next((p for p in (folder, folder / "map") if (p / MAP).is_file()), None)
    if maps is not None:
        _check_files(maps, read_json(maps / MAP)["files"])
    plain = root / "candidates" / UNPRUNED / METRICS
    return Source(
        root,
        folder,
        name,
        read_json(root / RUN),
        metrics,
        read_json(plain) if plain.is_file() else None,
        read_metadata((maps or folder) / MODEL),
        maps,
        read_class_folders(root / "tiles").samples,
    )


def load_classifier(source: Source) -> Classifier:
    """The candidate in PyTorch, made again from its plan and weights."""
    backbone, _ = restore(source.folder)
    kind = source.run["conditions"]["features"]
    maps = source.map_folder
    pixels = PixelHead.load(maps / PIXEL_HEAD) if maps else None
    return Classifier(backbone, kind, LogisticHead.load(source.folder / HEAD), pixels)


def _folder(root: Path, candidate: str | None) -> Path:
    if candidate is None:
        if not (root / "selected" / METRICS).is_file():
            raise UsageError(
                f"{root} has no selected candidate yet: finish the run with the same finicky run "
                "command, or name one with --candidate"
            )
        return root / "selected"
    known = sorted(p.parent.name for p in root.glob(f"candidates/*/{METRICS}"))
    if candidate not in known:
        raise UsageError(f"no candidate {candidate!r} in {root}. {nearest_names(candidate, known)}")
    return root / "candidates" / candidate


def _check_files(folder: Path, hashes: Mapping[str, str]) -> None:
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != expected:
            raise DataError(
                f"{path} is missing or is not the file that was measured: finicky run with the "
                "same --out makes it again"
            )
