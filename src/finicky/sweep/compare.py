"""Criteria against each other on a person's own photos: one row a cell, resumable.

A cell is a criterion at a keep ratio with one division of the photographs into training and
validation (a seed). The network is cut, repaired as asked and frozen; the head is trained on the
training tiles. Test photographs never choose anything: the repair of a cell is the one that is
better on validation, as in ``finicky run``.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finicky.backbones import Backbone, load_backbone
from finicky.errors import DataError, UsageError
from finicky.evaluation import score_predictions
from finicky.files import read_json, sha256_bytes, write_json, write_text
from finicky.importance import (
    CRITERIA,
    DEFAULT_CRITERION,
    TileOptions,
    WindowOptions,
    criterion,
)
from finicky.progress import Progress, silent, titled
from finicky.project import Project
from finicky.pruning import PruningPlan, count, cut, find_groups, plan_from_scores
from finicky.ranking import look, rank, unpruned_plan
from finicky.spool import Spool
from finicky.sweep.inputs import (
    Evidence,
    TileSet,
    fingerprint,
    gather_evidence,
    load_tiles,
    make_tiles,
)
from finicky.sweep.settings import SweepSettings
from finicky.sweep.workbench import make_reconstructor
from finicky.training import Reconstructor, extract, repair_by, train_head

FULL, ORIGINAL, TEXTURE = "unpruned", "original", "texture"
METHODS = (FULL, ORIGINAL, TEXTURE)
COLUMNS = (
    *("criterion", "masks", "keep_ratio", "seed", "repair", "params", "macs"),
    *("val_balanced_accuracy", "val_auroc", "balanced_accuracy", "f1", "auroc"),
    *("val_none", "val_reconstruct"),
)
CONDITIONS, ROWS = "compare.json", "compare.csv"


@dataclass(frozen=True)
class CompareSettings:
    """What is compared.

    Attributes:
        sweep: Backbone, tiles, features, rounding, repair; its criterion, ratios and seed are not
            read.
        criteria: Names of `CRITERIA`, and of `METHODS`: the unpruned network, the 2021 method layer
            by layer, and intensity and texture statistics of the tile without any network.
        keep_ratios: In (0, 1).
        seeds: Each another division into training and validation, and other draws.
        validation_only: Leave the test photographs alone.
        reference: The criterion that differences are taken against.
        windows: Parts of the photos that criteria by masks, pixel by pixel, look at.
    """

    sweep: SweepSettings = SweepSettings(round_to=1, head_seeds=1)
    criteria: tuple[str, ...] = tuple(CRITERIA)
    keep_ratios: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    seeds: tuple[int, ...] = (0, 1, 2)
    validation_only: bool = False
    reference: str = DEFAULT_CRITERION
    windows: WindowOptions = WindowOptions()

    def __post_init__(self) -> None:
        for name in self.criteria:
            if name not in METHODS:
                criterion(name)
        if not (self.criteria and self.keep_ratios and self.seeds):
            raise UsageError("a comparison needs at least one criterion, keep ratio and seed")


def compare(
    project: Project, out: Path, settings: CompareSettings, *, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Measure every cell that ``out`` does not hold yet; returns all rows.

    Raises:
        UsageError: ``out`` holds a comparison under other conditions.
        DataError: The photos do not suffice.
    """
    backbone = load_backbone(settings.sweep.backbone, weights=settings.sweep.weights)
    backbone.check_size(settings.sweep.tile)
    _open(out, project, settings, backbone)
    rows: list[dict[str, Any]] = []
    for number, seed in enumerate(settings.seeds, start=1):
        report = titled(progress, f"seed {seed} ({number} of {len(settings.seeds)})")
        one = replace(settings.sweep, seed=seed)
        missing = [cell for cell in _cells(settings) if not _file(out, *cell, seed).is_file()]
        if missing:
            with _Bench(project, backbone, one, settings, report) as bench:
                for done, (name, ratio) in enumerate(missing):
                    report("cells", done, len(missing))
                    bench.measure(name, ratio, _file(out, name, ratio, seed))
                report("cells", len(missing), len(missing))
        rows += [_row(_file(out, *cell, seed)) for cell in _cells(settings)]
    write_rows(out / ROWS, rows)
    return rows


def _cells(settings: CompareSettings) -> Iterator[tuple[str, float]]:
    for name in settings.criteria:
        if name in (FULL, TEXTURE):
            yield name, 1.0
            continue
        for ratio in settings.keep_ratios:
            yield name, ratio


def _file(out: Path, name: str, ratio: float, seed: int) -> Path:
    return out / "cells" / f"{name.replace('+', '-')}_{ratio:g}_{seed}.json"


def _row(path: Path) -> dict[str, Any]:
    return {k: v for k, v in read_json(path).items() if k != "answers"}


class _Bench:
    """What the cells of one seed share: tiles, evidence, the unpruned network's responses."""

    def __init__(
        self,
        project: Project,
        backbone: Backbone,
        sweep: SweepSettings,
        settings: CompareSettings,
        progress: Progress,
    ) -> None:
        self._project, self._backbone = project, backbone
        self._sweep, self._settings, self._progress = sweep, settings, progress
        self._size = backbone.trace_size
        self._scores: dict[str, dict[str, np.ndarray]] = {}
        self._reconstructor: Reconstructor | None = None

    def __enter__(self) -> _Bench:
        self._folder = tempfile.TemporaryDirectory()
        self._spool = Spool()
        self._evidence: Evidence = gather_evidence(
            self._project, self._sweep, progress=self._progress
        )
        table = make_tiles(
            self._project,
            self._evidence,
            self._sweep,
            Path(self._folder.name) / "tiles",
            progress=self._progress,
        )
        targets = self._evidence.targets
        self._data = load_tiles(table, self._spool, size=self._sweep.tile, targets=targets)
        self._groups = find_groups(self._backbone.module, self._size)
        self._look()
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()
        self._folder.cleanup()

    def _look(self) -> None:
        names = [n for n in self._settings.criteria if n not in METHODS]
        seen = look(
            self._backbone,
            self._evidence.scoring,
            classes=self._project.classes,
            targets=self._evidence.targets,
            criteria=[CRITERIA[n] for n in names],
            windows=self._settings.windows,
            tiles=self._tiles(),
            seed=self._sweep.seed,
            progress=self._progress,
        )
        for number, name in enumerate(names):
            self._progress("rank", number, len(names))
            self._scores[name] = CRITERIA[name].score(seen)

    def _tiles(self) -> TileOptions:
        usual = TileOptions(size=self._sweep.tile, min_coverage=self._sweep.min_coverage)
        most = self._sweep.tiles_per_photo
        return usual if most is None else replace(usual, per_photo=min(usual.per_photo, most))

    def measure(self, name: str, ratio: float, path: Path) -> None:
        """One cell, written when it is finished."""
        if name == TEXTURE:
            from finicky.sweep.texture import describe_tiles

            best = self._judge(describe_tiles(self._data.tiles), "none")
            sizes = {"params": 0, "macs": 0}
        else:
            best, sizes = self._pruned(name, ratio)
        masks = name == ORIGINAL or (name in CRITERIA and CRITERIA[name].uses_masks)
        cell = {"criterion": name, "masks": int(masks), "keep_ratio": ratio}
        write_json(path, cell | {"seed": self._sweep.seed} | sizes | best)

    def _pruned(self, name: str, ratio: float) -> tuple[dict[str, Any], dict[str, int]]:
        plan = self._plan(name, ratio)
        repairs = self._sweep.repairs if name not in (FULL, ORIGINAL) else ("none",)
        trials = []
        for repair in repairs:
            module = cut(self._backbone.module, plan.decisions, self._size)
            if repair != "none":
                if self._reconstructor is None:
                    self._reconstructor = make_reconstructor(
                        self._backbone, self._data, self._sweep
                    )
                repair_by(repair, self._reconstructor, module, plan.kept)
            smaller = self._backbone.with_module(module)
            with Spool() as spool:
                rows = extract(smaller, self._data.tiles, spool, kind=self._sweep.features)  # type: ignore[arg-type]
                trials.append(self._judge(rows, repair))
        sizes = count(smaller.module, self._sweep.tile)
        best = max(trials, key=lambda t: t["val_balanced_accuracy"])
        for trial in trials:
            best[f"val_{trial['repair']}"] = trial["val_balanced_accuracy"]
        return best, {"params": sizes.params, "macs": sizes.macs}

    def _plan(self, name: str, ratio: float) -> PruningPlan:
        if name == FULL:
            return unpruned_plan(self._backbone)
        if name == ORIGINAL:
            ranking = rank(
                self._backbone,
                self._evidence.scoring,
                classes=self._project.classes,
                targets=self._evidence.targets,
                method=ORIGINAL,
            )
            return ranking.plan(ratio)
        return plan_from_scores(
            self._groups,
            self._scores[name],
            ratio,
            backbone=self._backbone.name,
            criterion=name,
            round_to=self._sweep.round_to,
        )

    def _judge(self, features: np.ndarray, repair: str) -> dict[str, Any]:
        data: TileSet = self._data
        train = data.rows("train")
        head = train_head(
            features[train], data.labels[train], data.groups[train], seed=self._sweep.seed
        )
        found: dict[str, Any] = {"repair": repair}
        splits = ("validation",) if self._settings.validation_only else ("validation", "test")
        for split in splits:
            rows = data.rows(split)
            answers = head.probabilities(features[rows])
            quality = score_predictions(data.labels[rows], answers)
            prefix = "val_" if split == "validation" else ""
            for metric in ("balanced_accuracy", "f1", "auroc"):
                value = getattr(quality, metric)
                found[prefix + metric] = None if np.isnan(value) else round(float(value), 6)
            if split == "test":
                found["answers"] = {
                    "labels": data.labels[rows].tolist(),
                    "groups": data.groups[rows].tolist(),
                    "probabilities": [round(float(p), 5) for p in answers],
                }
        return found


def _open(out: Path, project: Project, settings: CompareSettings, backbone: Backbone) -> None:
    """Claim the folder; cells of other conditions must not mix."""
    sweep = replace(settings.sweep, keep_ratios=(0.1,))
    evidence = gather_evidence(project, sweep)
    conditions = fingerprint(project, evidence, sweep, backbone.provenance.sha256)
    conditions |= {"validation_only": settings.validation_only}
    digest = sha256_bytes(json.dumps(conditions, sort_keys=True).encode())
    path = out / CONDITIONS
    if path.is_file():
        before = read_json(path)
        if before.get("sha256") != digest:
            old = before.get("conditions", {})
            differing = sorted(k for k in conditions if old.get(k) != conditions[k])
            raise UsageError(
                f"{out} holds a comparison with other {', '.join(differing)}: choose another --out"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} holds other files: choose a new or empty --out folder")
    write_json(path, {"conditions": conditions, "sha256": digest})


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The table; what was not measured is empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    write_text(path, stream.getvalue())


def read_answers(out: Path, name: str, ratio: float, seed: int) -> dict[str, np.ndarray]:
    """``labels``, ``groups`` and ``probabilities`` of a cell's test tiles."""
    value = read_json(_file(out, name, ratio, seed))
    if "answers" not in value:
        raise DataError(f"{out} was made on validation only: it has no answers on the test photos")
    return {key: np.asarray(found) for key, found in value["answers"].items()}
