"""One candidate: cut, features, heads, predictions, export; all of it goes to its folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.backbones import Backbone
from finicky.classes import MaskClass
from finicky.errors import DataError
from finicky.evaluation import METRICS, bootstrap_metrics, confusion, score_predictions
from finicky.export import HEAD_TOLERANCE, Classifier, export_onnx
from finicky.files import atomic_path
from finicky.mapping import OVERLAP
from finicky.progress import Progress, silent
from finicky.pruning import Cutter, PruningPlan, count, save_pruned
from finicky.spool import Spool
from finicky.sweep.folder import HEAD, ONNX, PREDICTIONS, read_arrays
from finicky.sweep.identity import Candidate
from finicky.sweep.inputs import TileSet
from finicky.sweep.settings import SweepSettings
from finicky.sweep.trained import TrainingTiles, facts_of, train_after_cut
from finicky.sweep.training_kinds import FROZEN, SCRATCH
from finicky.training import (
    LogisticHead,
    Reconstructor,
    extract,
    refit_head,
    repair_by,
    train_head,
)

# As in the original: each head is trained on three quarters of the training set.
TRAIN_SHARE = 0.75
PARITY_TILES = 64
# By how much another tile threshold must be better on validation to be taken instead of 0.5.
WORTH_MOVING = 0.01


@dataclass(frozen=True)
class Heads:
    """The head that is deployed, trained on all training tiles, and those that show the spread."""

    deployed: LogisticHead
    by_seed: tuple[LogisticHead, ...]


def evaluate_candidate(
    candidate: Candidate,
    cutter: Cutter,
    plan: PruningPlan,
    data: TileSet,
    settings: SweepSettings,
    here: Path,
    target: MaskClass,
    *,
    reconstructor: Reconstructor | None = None,
    tiles: TrainingTiles | None = None,
    train_time_s: float | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Cut, train, test and export one candidate; returns what its ``metrics.json`` is to hold.

    Args:
        candidate: Which one.
        cutter: Of the unpruned network, to the depth at which the candidate ends.
        plan: What stays; the unpruned network's plan keeps all.
        data: Tiles of all splits.
        settings: Of the sweep.
        here: Where its files go.
        target: The class that is looked for.
        reconstructor: Fits the cut network to the unpruned one's responses, if given.
        tiles: What a candidate that is trained after the cut learns from.
        train_time_s: How long that may take; ``None``: until nothing is gained.
        progress: Told of each batch of features, and of each step of training.
    """
    repairs = settings.repairs if plan.keep_ratio < 1 else ("none",)
    trials = [
        _try(cutter, plan, data, settings, repair, reconstructor, progress) for repair in repairs
    ]
    best = max(trials, key=lambda trial: trial.validation_score)
    if candidate.train != FROZEN:
        assert tiles is not None
        best = _trained(best, candidate, tiles, data, settings, here, train_time_s, progress)
    save_pruned(best.backbone, plan, here, size=settings.tile)
    best.heads.deployed.save(here / HEAD)
    _save_predictions(here / PREDICTIONS, data, best.by_seed, best.deployed)
    parity = export_onnx(
        Classifier(best.backbone, settings.features, best.heads.deployed),  # type: ignore[arg-type]
        here / ONNX,
        size=settings.tile,
        class_names=(f"not {target.name}", target.name),
        tiles=data.tiles[data.rows("validation")[:PARITY_TILES]],
        metadata={
            "backbone": plan.backbone,
            "method": plan.method,
            "keep_ratio": plan.keep_ratio,
            "train": candidate.train,
            "provenance": best.backbone.provenance.to_json(),
            "target": {"id": target.id, "name": target.name, "colour": target.color},
            "thresholds": {"tile": tile_threshold(data, best.by_seed)},
            "overlap": OVERLAP,
            "mm_per_px": None,
        },
        tolerance=HEAD_TOLERANCE,
    )
    return {
        "candidate": candidate.name,
        "tried": candidate.to_json(),
        "method": plan.method,
        "repair": best.repair,
        "train": candidate.train,
        "training": best.training,
        "repairs": {trial.repair: trial.validation_score for trial in trials},
        "keep_ratio": plan.keep_ratio,
        **asdict(count(best.backbone.module, settings.tile)),
        "size_bytes": (here / ONNX).stat().st_size,
        "C": _plain(best.heads.deployed.C),
        "parity": asdict(parity),
        **quality(data, best.by_seed, best.deployed, seed=settings.seed),
    }


@dataclass(frozen=True)
class _Trial:
    """A cut network after one kind of repair, with its heads and what they answer.

    ``validation_score``: balanced accuracy on validation, mean over the head seeds. ``training``:
    how it went, where the network was trained after the cut.
    """

    repair: str
    backbone: Backbone
    heads: Heads
    by_seed: np.ndarray
    deployed: np.ndarray
    validation_score: float
    training: dict[str, Any] | None = None


def _try(
    cutter: Cutter,
    plan: PruningPlan,
    data: TileSet,
    settings: SweepSettings,
    repair: str,
    reconstructor: Reconstructor | None,
    progress: Progress,
) -> _Trial:
    smaller = cutter.cut(plan.decisions)
    if reconstructor is not None:
        repair_by(repair, reconstructor, smaller.module, plan.kept)
    with Spool() as spool:
        features = extract(smaller, data.tiles, spool, kind=settings.features, progress=progress)  # type: ignore[arg-type]
        heads = train_heads(features, data, settings)
        by_seed = np.stack([head.probabilities(features) for head in heads.by_seed])
        deployed = heads.deployed.probabilities(features)
    rows = data.rows("validation")
    # Not F1: where cracks are common it prefers calling everything a crack to a weak network.
    found = [score_predictions(data.labels[rows], p[rows]).balanced_accuracy for p in by_seed]
    score = float(np.nan_to_num(np.mean(found)))
    return _Trial(repair, smaller, heads, by_seed, deployed, score)


def _trained(
    start: _Trial,
    candidate: Candidate,
    tiles: TrainingTiles,
    data: TileSet,
    settings: SweepSettings,
    here: Path,
    time_s: float | None,
    progress: Progress,
) -> _Trial:
    """The network trained from where a trial left it; its one head was trained with it."""
    found = train_after_cut(
        candidate.train,
        start.backbone,
        start.heads.deployed,
        tiles,
        features=settings.features,
        seed=settings.seed,
        time_s=time_s,
        here=here,
        progress=progress,
    )
    with Spool() as spool:
        features = extract(found.backbone, data.tiles, spool, kind=settings.features)  # type: ignore[arg-type]
        deployed = found.head.probabilities(features)
    rows = data.rows("validation")
    score = score_predictions(data.labels[rows], deployed[rows]).balanced_accuracy
    return _Trial(
        "none" if candidate.train == SCRATCH else start.repair,
        found.backbone,
        Heads(found.head, (found.head,)),
        deployed[None],
        deployed,
        float(np.nan_to_num(score)),
        facts_of(found),
    )


def train_heads(features: np.ndarray, data: TileSet, settings: SweepSettings) -> Heads:
    """The deployed head on all training tiles, and one a seed on three quarters of the photos.

    C is chosen once, by cross-validation on all training tiles.
    """
    train = data.rows("train")
    rows, labels, groups = features[train], data.labels[train], data.groups[train]
    deployed = train_head(rows, labels, groups, seed=settings.seed)
    by_seed = []
    for seed in range(settings.head_seeds):
        part = _some_groups(labels, groups, np.random.default_rng([settings.seed, seed]))
        by_seed.append(
            refit_head(
                rows[part], labels[part], C=deployed.C, least_variation=deployed.least_variation
            )
        )
    return Heads(deployed, tuple(by_seed))


def quality(
    data: TileSet, by_seed: np.ndarray, deployed: np.ndarray, *, seed: int
) -> dict[str, Any]:
    """Metrics of validation and test, as plain values.

    ``test`` and ``validation``: mean over the head seeds, with the 95 % interval (bootstrap by
    photograph) and the standard deviation over seeds. ``deployed``: of the one exported head.
    """
    found: dict[str, Any] = {}
    for split in ("validation", "test"):
        rows = data.rows(split)
        labels, groups = data.labels[rows], data.groups[rows]
        intervals = bootstrap_metrics(labels, by_seed[:, rows], groups, seed=seed)
        single = [score_predictions(labels, p) for p in by_seed[:, rows]]
        found[split] = {
            metric: {
                "value": _plain(intervals[metric].value),
                "low": _plain(intervals[metric].low),
                "high": _plain(intervals[metric].high),
                "seed_std": _plain(_spread([getattr(q, metric) for q in single])),
            }
            for metric in METRICS
        }
        found[f"{split}_tiles"] = len(rows)
        found[f"{split}_groups"] = len(np.unique(groups))
        found[f"{split}_confusion"] = asdict(confusion(labels, deployed[rows]))
        mine = asdict(score_predictions(labels, deployed[rows]))
        found[f"{split}_deployed"] = {metric: _plain(mine[metric]) for metric in METRICS}
    return found


def tile_threshold(data: TileSet, by_seed: np.ndarray) -> float:
    """From which probability on a tile counts as target: the best on validation, or 0.5.

    Best is mean balanced accuracy over the head seeds, on a grid of twentieths.
    """
    rows = data.rows("validation")
    positive = data.labels[rows] == 1

    def score(threshold: float) -> float:
        found = by_seed[:, rows] >= threshold
        return float((found[:, positive].mean() + 1 - found[:, ~positive].mean()) / 2)

    grid = [k / 20 for k in range(1, 20)]
    best = max(grid, key=lambda t: (score(t), -abs(t - 0.5)))
    return best if score(best) > score(0.5) + WORTH_MOVING else 0.5


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """What a candidate answered: labels, groups, splits, by_seed ``(S, N)``, deployed ``(N,)``."""
    return read_arrays(path)


def _save_predictions(path: Path, data: TileSet, by_seed: np.ndarray, deployed: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            labels=data.labels,
            groups=data.groups,
            splits=data.splits,
            by_seed=by_seed,
            deployed=deployed,
        )


def _some_groups(labels: np.ndarray, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rows of a random three quarters of the groups that hold both classes."""
    names = np.unique(groups)
    for _ in range(100):
        chosen = random.permutation(names)[: max(2, round(TRAIN_SHARE * len(names)))]
        rows = np.flatnonzero(np.isin(groups, chosen))
        if len(np.unique(labels[rows])) == 2:
            return rows
    raise DataError("too few photos hold both classes to train the head: label more photos")


def _spread(values: list[float]) -> float:
    """Standard deviation; of one value it is unknown, not 0."""
    return float(np.std(values)) if len(values) > 1 else float("nan")


def _plain(value: float) -> float | None:
    """JSON knows no NaN: what is undefined is null."""
    return None if np.isnan(value) else float(value)
