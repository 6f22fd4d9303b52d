"""From a project to what every candidate needs: pairs to score on, tiles to train and test on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.classes import MaskClass
from finicky.data.folders import SampleTable, read_class_folders
from finicky.data.pairs import Pair, Rejected, find_pairs, usable_pairs
from finicky.data.splits import (
    Assignment,
    carve_validation,
    image_key,
    read_split_csv,
    split_groups,
)
from finicky.data.tile_folder import TABLE
from finicky.data.tiles import TileReport, cut_tiles
from finicky.errors import DataError
from finicky.files import sha256_file
from finicky.progress import Progress, silent
from finicky.project import Project
from finicky.spool import Spool
from finicky.sweep.settings import SweepSettings
from finicky.sweep.versions import code_sha256, packages
from finicky.training import read_tiles

Splits = Mapping[str, Assignment]  # photo key -> split, group


@dataclass(frozen=True)
class Evidence:
    """The labelled photos of a project, and which split each is in.

    Attributes:
        usable: Photos whose mask can be used.
        rejected: Photos that were left out, each with the reason.
        splits: Split and group of every usable photo, by key.
        targets: The classes that count as evidence.
    """

    usable: tuple[Pair, ...]
    rejected: tuple[Rejected, ...]
    splits: Splits
    targets: tuple[MaskClass, ...]

    @property
    def scoring(self) -> list[Pair]:
        """The photos that filters are scored on: those of the training split only."""
        return [pair for pair in self.usable if self.splits[pair.key][0] == "train"]


@dataclass(frozen=True)
class TileSet:
    """Tiles in memory (or mapped from disk), and what is known of each.

    Attributes:
        tiles: ``(N, S, S, 3)`` uint8 RGB.
        labels: ``(N,)`` int64, 1 = target.
        groups: ``(N,)`` str, the photograph that a tile came from.
        splits: ``(N,)`` str: train, validation or test.
    """

    tiles: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    splits: np.ndarray

    def rows(self, split: str) -> np.ndarray:
        """Indices of a split's tiles."""
        return np.flatnonzero(self.splits == split)


def gather_evidence(
    project: Project, settings: SweepSettings, *, progress: Progress = silent
) -> Evidence:
    """Match photos with masks, look at each once, and divide them by group.

    A ``split.csv`` of the project is followed; its training part gives up a quarter of its groups
    for validation. Without one, groups are photos: 60 % train, 20 % validation, 20 % test.
    """
    targets = project.classes.targets(settings.targets or None)
    scan = find_pairs(project.photos, project.masks)
    looked = usable_pairs(scan.pairs, project.classes, targets, progress=progress)
    splits = divide(looked.usable, project.split_file, settings.seed)
    evidence = Evidence(looked.usable, looked.rejected, splits, targets)
    if not evidence.scoring:
        raise DataError("no labelled photo is left in the training split: label more photos")
    return evidence


def divide(pairs: Sequence[Pair], split_file: Path | None, seed: int) -> Splits:
    """Split and group of each photo key."""
    if split_file is None:
        parts = split_groups([p.key for p in pairs], fractions=(0.6, 0.2, 0.2), seed=seed)
        return {p.key: (parts[p.key], p.key) for p in pairs}
    listed = read_split_csv(split_file)
    keys = {p.key: image_key(p.key) for p in pairs}
    missing = [p.key for p in pairs if keys[p.key] not in listed]
    if missing:
        raise DataError(
            f"{split_file} does not list {missing[0]}"
            f"{f' and {len(missing) - 1} more photos' if len(missing) > 1 else ''}"
        )
    return carve_validation({p: listed[k] for p, k in keys.items()}, seed=seed)


def make_tiles(
    project: Project,
    evidence: Evidence,
    settings: SweepSettings,
    out: Path,
    *,
    progress: Progress = silent,
) -> SampleTable:
    """Cut the labelled photos into class folders, or read those that an earlier start cut."""
    if not (out / TABLE).is_file():
        cut(project, evidence, settings, out, progress=progress)
    return read_class_folders(out)


def cut(
    project: Project,
    evidence: Evidence,
    settings: SweepSettings,
    out: Path,
    *,
    force: bool = False,
    progress: Progress = silent,
) -> TileReport:
    """Cut the labelled photos into class folders as a sweep with these settings would."""
    return cut_tiles(
        evidence.usable,
        out,
        classes=project.classes,
        targets=evidence.targets,
        splits=evidence.splits,
        tile=settings.tile,
        min_coverage=settings.min_coverage,
        max_per_photo=settings.tiles_per_photo,
        seed=settings.seed,
        force=force,
        progress=progress,
    )


def load_tiles(
    table: SampleTable,
    spool: Spool,
    *,
    size: int,
    targets: Sequence[MaskClass],
    progress: Progress = silent,
) -> TileSet:
    """Decode every tile once, for all candidates."""
    samples = table.samples
    names = {target.name for target in targets}
    tiles = read_tiles([s.path for s in samples], spool, size=size, progress=progress)
    return TileSet(
        tiles,
        np.array([int(s.label in names) for s in samples], dtype=np.int64),
        np.array([s.group for s in samples]),
        np.array([s.split for s in samples]),
    )


def fingerprint(
    project: Project, evidence: Evidence, settings: SweepSettings, backbone_sha: str | None
) -> dict[str, Any]:
    """What every number of a run depends on; two runs that agree in it may share their work."""
    from finicky._version import __version__

    digest = hashlib.sha256()
    for pair in evidence.usable:
        line = (pair.key, sha256_file(pair.photo), sha256_file(pair.mask))
        digest.update("\n".join([*line, *evidence.splits[pair.key], ""]).encode())
    classes = [(c.id, c.name, c.role) for c in project.classes]
    digest.update(repr(classes).encode())
    # More keep ratios or more timing add to a run; they change nothing that is there.
    additive = ("keep_ratios", "latency_seconds", "maps", "train", "depth")
    return {
        **{name: value for name, value in settings.to_json().items() if name not in additive},
        "targets": [t.name for t in evidence.targets],
        "weights_sha256": backbone_sha,
        "data_sha256": digest.hexdigest(),
        "version": __version__,
        "code_sha256": code_sha256(),
        "packages": packages(),
    }
