"""The 8-bit file: recipes tried on validation, the best one judged, or the reason there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.errors import FinickyError
from finicky.evaluation import score_predictions
from finicky.export.answers import Agreement, Answers, agreement, ask_onnx
from finicky.export.quantise import RECIPES, Recipe, quantise
from finicky.progress import Progress, silent

LEAST_AGREEMENT = 0.99
MOST_DROP = 0.01


@dataclass(frozen=True)
class Labelled:
    """Tiles of one split in memory: ``(N, S, S, 3)`` uint8, labels 0 or 1, photographs."""

    tiles: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Limits:
    """From which probability on tiles, and cells of a map, count as target."""

    tile: float
    map: tuple[float, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """An 8-bit file against the float one on one split.

    Attributes:
        agreement: Share of tiles with the same class.
        cells: Share of map cells on the same side; ``None`` without a map.
        accuracy: Of the 8-bit file.
        drop: Accuracy of the float file minus this.
    """

    agreement: float
    cells: float | None
    accuracy: float
    drop: float

    @property
    def good(self) -> bool:
        """At least 99 % agreement, at most 1 point lost."""
        cells = 1.0 if self.cells is None else self.cells
        return min(self.agreement, cells) >= LEAST_AGREEMENT and self.drop <= MOST_DROP

    @property
    def failures(self) -> list[str]:
        """Which limits were missed, for people."""
        found = []
        if self.agreement < LEAST_AGREEMENT:
            found.append(f"same class on {self.agreement:.1%} of tiles (99 % needed)")
        if self.cells is not None and self.cells < LEAST_AGREEMENT:
            found.append(f"same side on {self.cells:.1%} of map cells (99 % needed)")
        if self.drop > MOST_DROP:
            found.append(f"accuracy {100 * self.drop:.1f} points lower (1 allowed)")
        return found


@dataclass(frozen=True)
class Trial:
    """One recipe and how it did on validation."""

    recipe: Recipe
    validation: Judgement


@dataclass(frozen=True)
class Quantised:
    """The recipe that was taken and all that were tried."""

    chosen: Trial
    trials: tuple[Trial, ...]
    calibration_tiles: int

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return asdict(self)


def make_int8(
    model: Path,
    out: Path,
    *,
    calibration: np.ndarray,
    validation: Labelled,
    expected: Answers,
    limits: Limits,
    recipes: Sequence[Recipe] = RECIPES,
    progress: Progress = silent,
) -> Quantised:
    """Try recipes until one is good enough on validation; else keep the one that agrees most.

    Args:
        model: In float.
        out: The 8-bit file, without metadata.
        calibration: ``(N, S, S, 3)`` uint8 training tiles.
        validation: What decides; test data never does.
        expected: The float file's answers on it.
        limits: Thresholds of the bundle.
        recipes: In the order in which they are tried.
        progress: Told of each.

    Raises:
        FinickyError: ONNX Runtime cannot quantise the network by any of them.
    """
    trials: list[Trial] = []
    refused: FinickyError | None = None
    for number, recipe in enumerate(recipes, start=1):
        try:
            quantise(model, out, calibration, recipe)
        except FinickyError as error:  # one way of finding ranges may fail where another does not
            refused = error
            continue
        found = ask_onnx(out, validation.tiles)
        trials.append(Trial(recipe, judge(validation.labels, expected, found, limits)))
        progress("8-bit recipes", number, len(recipes))
        if trials[-1].validation.good:
            break
    if not trials:
        assert refused is not None
        raise refused
    best = max(trials, key=lambda t: (t.validation.good, _least(t.validation)))
    if best is not trials[-1]:
        quantise(model, out, calibration, best.recipe)
    return Quantised(best, tuple(trials), len(calibration))


def judge(labels: np.ndarray, expected: Answers, found: Answers, limits: Limits) -> Judgement:
    """How the 8-bit answers compare with those in float."""
    same: Agreement = agreement(expected, found, threshold=limits.tile, map_thresholds=limits.map)
    right, rounded = (
        score_predictions(labels, answers.target, threshold=limits.tile).accuracy
        for answers in (expected, found)
    )
    return Judgement(same.tiles, same.cells, rounded, right - rounded)


def _least(judgement: Judgement) -> float:
    return min(judgement.agreement, 1.0 if judgement.cells is None else judgement.cells)
