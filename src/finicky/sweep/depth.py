"""At which depth a network sees the defect best, and candidates that end there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from finicky.backbones import Backbone
from finicky.backbones.truncation import ends, truncate
from finicky.errors import DataError, UnsupportedModelError, UsageError
from finicky.evaluation import score_predictions
from finicky.importance import Evidence
from finicky.progress import Progress, silent
from finicky.pruning import PruningPlan, find_groups
from finicky.ranking import FinickyRanking, Ranking
from finicky.sweep.identity import Candidate
from finicky.sweep.inputs import Splits, TileSet
from finicky.sweep.texture import describe_tiles
from finicky.training import refit_head, train_head

FULL, AUTO, ALL = "full", "auto", "all"
# An end that is this near to the best one in cross-validated balanced accuracy is as good.
_NEAR = 0.02
_C, _FOLDS = 0.1, 4
_TEXTURE_TILES = 500


@dataclass(frozen=True)
class Stage:
    """What a network knows after one of its convolutions.

    Attributes:
        layer: The convolution.
        channels: How many it has.
        mask_correlation: Size of the correlation of its best channel with the masks, in [0, 1].
        balanced_accuracy: Of a logistic head on means and maxima of its channels over training
            tiles, on photographs that the head did not see (4 folds).
    """

    layer: str
    channels: int
    mask_correlation: float
    balanced_accuracy: float


class DepthLook:
    """A run's look at depth, taken once and kept as ``depth.json``.

    Args:
        backbone: Unpruned.
        size: Side of a tile in px.
        depth: What was asked for; see `SweepSettings.depth`.
    """

    def __init__(self, backbone: Backbone, size: int, depth: str) -> None:
        self._backbone, self._size = backbone, size
        self._wanted = () if depth == FULL else wanted_ends(depth, self._possible, backbone.name)
        self._plans: dict[str, FinickyRanking] = {}

    @cached_property
    def _possible(self) -> tuple[str, ...]:
        """Where the network can end: told by trial passes, which a full network does without."""
        return tuple(ends(self._backbone.module, self._size))

    @property
    def must_look_first(self) -> bool:
        """Whether candidates follow from what is seen."""
        return self._wanted is None

    def ends(self, seen: Mapping[str, Any] | None) -> tuple[str, ...]:
        """Where candidates end, besides the last layer."""
        return tuple(seen["promising"] if seen else ()) if self._wanted is None else self._wanted

    def look(
        self, ranking: Ranking, data: TileSet, splits: Splits, *, seed: int, progress: Progress
    ) -> dict[str, Any]:
        """What ``depth.json`` holds; without stages where the ranking did not look at tiles."""
        evidence = ranking.seen if isinstance(ranking, FinickyRanking) else None
        stages: list[Stage] = []
        if evidence is not None and evidence.joint and len(self._possible) > 1:
            groups = {key: group for key, (_, group) in splits.items()}
            stages = profile(evidence, self._possible, groups, seed=seed, progress=progress)
        return {
            "stages": [asdict(stage) for stage in stages],
            "promising": list(promising(stages)),
            "texture_val_balanced_accuracy": texture_quality(data, seed=seed),
        }

    def plan(self, ranking: Ranking, candidate: Candidate) -> PruningPlan:
        """What stays of a network that ends early, by the scores of the whole one."""
        assert isinstance(ranking, FinickyRanking)
        if candidate.depth not in self._plans:
            shorter = truncate(self._backbone, candidate.depth, size=self._size)
            groups = find_groups(shorter.module, shorter.trace_size)
            self._plans[candidate.depth] = replace(ranking, groups=groups)
        return self._plans[candidate.depth].plan(candidate.keep_ratio)


def profile(
    evidence: Evidence,
    layers: Sequence[str],
    groups: Mapping[str, str],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Stage]:
    """A network, end by end, in forward order; empty where tiles of both kinds are too few.

    Args:
        evidence: With pooled tiles and joint moments, of training photographs.
        layers: Where the network can end.
        groups: Of each photo key.
        seed: Of the folds.
        progress: Told of each end.
    """
    pooled = evidence.pooled
    labels = pooled.labels
    origins = np.array([groups.get(key, key) for key in pooled.groups])
    folds = _folds(labels, origins, seed)
    found = []
    for number, layer in enumerate(layers):
        progress("depth", number, len(layers))
        if layer not in pooled.layers or layer not in evidence.joint or not folds:
            continue
        rows = np.concatenate([pooled.means(layer), pooled.peaks(layer)], 1)
        overlap = evidence.joint[layer].mask_correlation()
        quality = _cross_validated(rows, labels, folds)
        best = float(overlap.max())
        found.append(Stage(layer, len(overlap), round(best, 4), round(quality, 4)))
    progress("depth", len(layers), len(layers))
    return found


def promising(stages: Sequence[Stage]) -> tuple[str, ...]:
    """The best end and the earliest that is nearly as good; none where that is the last."""
    if not stages:
        return ()
    best = max(stage.balanced_accuracy for stage in stages)
    top = next(s.layer for s in stages if s.balanced_accuracy == best)
    early = next(s.layer for s in stages if s.balanced_accuracy >= best - _NEAR)
    return tuple(dict.fromkeys(n for n in (early, top) if n != stages[-1].layer))


def wanted_ends(depth: str, possible: Sequence[str], name: str) -> tuple[str, ...] | None:
    """What ``--depth`` asks for: layers; ``None`` for ``auto``, which must look first.

    Raises:
        UsageError: A layer after which the network cannot end.
        UnsupportedModelError: It cannot end early at all.
    """
    layers = tuple(dict.fromkeys(part.strip() for part in depth.split(",") if part.strip()))
    if layers == (FULL,):
        return ()
    if not layers:
        raise UsageError(
            f"--depth takes full, auto, all or convolutions with commas, got {depth!r}"
        )
    if alone := [word for word in (FULL, AUTO, ALL) if word in layers and len(layers) > 1]:
        raise UsageError(
            f"--depth takes {alone[0]} alone, got {depth!r}; a network to its last layer is always "
            "among the candidates"
        )
    if len(possible) < 2:
        raise UnsupportedModelError(
            f"{name} is no sequence of parts and cannot end early: leave --depth out"
        )
    if layers == (AUTO,):
        return None
    if layers == (ALL,):
        return tuple(possible[:-1])
    for layer in layers:
        if layer not in possible:
            raise UsageError(
                f"{name} cannot end after {layer!r}; --depth takes full, auto, all or some of "
                f"{', '.join(possible)}"
            )
    return tuple(layer for layer in layers if layer != possible[-1])


def texture_quality(data: TileSet, *, seed: int) -> float | None:
    """Balanced accuracy on validation of plain intensity and texture statistics, no network.

    ``None`` where either kind of tile is missing.
    """
    draw = np.random.default_rng(seed)
    rows = {
        split: np.sort(draw.permutation(data.rows(split))[:_TEXTURE_TILES])
        for split in ("train", "validation")
    }
    described = {s: describe_tiles(data.tiles, r) for s, r in rows.items()}
    train = rows["train"]
    try:
        head = train_head(described["train"], data.labels[train], data.groups[train], seed=seed)
    except DataError:
        return None
    answers = head.probabilities(described["validation"])
    value = score_predictions(data.labels[rows["validation"]], answers).balanced_accuracy
    return None if np.isnan(value) else round(float(value), 4)


def _folds(
    labels: np.ndarray, groups: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold

    if len(np.unique(labels)) < 2:
        return []
    number = min(_FOLDS, *(len(np.unique(groups[labels == c])) for c in (0, 1)))
    if number < 2:
        return []
    folds = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    return list(folds.split(labels, labels, groups))


def _cross_validated(
    rows: np.ndarray, labels: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]]
) -> float:
    answers = np.empty(len(labels))
    for seen, unseen in folds:
        head = refit_head(rows[seen], labels[seen], C=_C)
        answers[unseen] = head.probabilities(rows[unseen])
    return float(score_predictions(labels, answers).balanced_accuracy)
