"""A glance at a cut network: repair it, train one head on some photographs, ask validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from finicky.backbones import Backbone
from finicky.evaluation import score_predictions
from finicky.progress import Progress, silent
from finicky.pruning import PruningPlan, count
from finicky.spool import Spool, forget
from finicky.sweep.inputs import TileSet
from finicky.sweep.settings import SweepSettings
from finicky.training import Reconstructor, extract, repair_by, train_head


@dataclass(frozen=True)
class Seen:
    """What a look at one network told, all on validation; NaN where undefined.

    ``share``: of the training photographs; 1 is a full evaluation.
    """

    keep_ratio: float
    share: float
    f1: float = math.nan
    recall: float = math.nan
    accuracy: float = math.nan
    params: int = 0
    macs: int = 0

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON, which knows no NaN."""
        return {k: None if v != v else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; what else is in the value is left out."""
        found: dict[str, Any] = {
            name: math.nan if value.get(name) is None else value[name]
            for name in cls.__dataclass_fields__
        }
        return cls(**found)


def glance(
    smaller: Backbone,
    plan: PruningPlan,
    share: float,
    data: TileSet,
    settings: SweepSettings,
    *,
    reconstructor: Reconstructor | None = None,
    progress: Progress = silent,
) -> Seen:
    """Look at a network on a share of the training photographs.

    Args:
        smaller: Cut; the first of the settings' repairs changes it.
        plan: By which it was cut.
        share: Of the training photographs, in (0, 1].
        data: Tiles of all splits.
        settings: Of the sweep.
        reconstructor: For the repair, if there is one.
        progress: Told of each batch of features.
    """
    if reconstructor is not None:
        repair_by(settings.repairs[0], reconstructor, smaller.module, plan.kept)
    train, held_out = some_photographs(data, share, settings.seed), data.rows("validation")
    tiles: Any = _Rows(data.tiles, np.concatenate([train, held_out]))
    kind: Any = settings.features
    with Spool() as spool:
        rows = extract(smaller, tiles, spool, kind=kind, progress=progress)
        labels, groups = data.labels, data.groups
        head = train_head(rows[: len(train)], labels[train], groups[train], seed=settings.seed)
        chances = head.probabilities(rows[len(train) :])
    quality = score_predictions(labels[held_out], chances)
    counts = count(smaller.module, settings.tile)
    f1, recall, accuracy = (float(v) for v in (quality.f1, quality.recall, quality.accuracy))
    return Seen(plan.keep_ratio, share, f1, recall, accuracy, counts.params, counts.macs)


def some_photographs(data: TileSet, share: float, seed: int) -> np.ndarray:
    """Training tiles of a share of the photographs, more until both classes have two of them.

    Photographs come in one random order, so that a larger share holds a smaller one.
    """
    rows = data.rows("train")
    labels, groups = data.labels[rows], data.groups[rows]
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    for number in range(max(2, math.ceil(share * len(names))), len(names) + 1):
        part = np.isin(groups, names[:number])
        held = [len(np.unique(groups[part & (labels == kind)])) for kind in (0, 1)]
        if min(held) >= 2:
            return np.asarray(rows[part])
    return rows


class _Rows:
    """Some rows of an array that may lie on disk; only what is asked for is read."""

    def __init__(self, tiles: np.ndarray, rows: np.ndarray) -> None:
        self._tiles, self._chosen = tiles, rows

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, part: slice) -> np.ndarray:
        found = np.asarray(self._tiles[self._chosen[part]])
        forget(self._tiles)
        return found
