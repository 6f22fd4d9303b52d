"""Quality of a two-class answer: the target class is 1 ("positive"), every other class 0.

A number that the data cannot give is NaN, never a made-up 0:

=================  ==========================================================
metric             NaN when
=================  ==========================================================
accuracy           never
balanced_accuracy  only one class is present
precision          nothing was predicted positive
recall             no positive is present
f1                 no positive is present and none was predicted
auroc              only one class is present
=================  ==========================================================

F1 is 0 (not NaN) where positives are present and none was found, as in scikit-learn.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finicky.errors import DataError, ShapeError, UsageError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class QualityMetrics:
    """Six metrics of one set of predictions, each in [0, 1], higher is better, NaN = undefined."""

    accuracy: float
    balanced_accuracy: float
    precision: float
    recall: float
    f1: float
    auroc: float

    def as_dict(self) -> dict[str, float]:
        """The metrics by name, in the order of `METRICS`."""
        return asdict(self)


METRICS: tuple[str, ...] = tuple(field.name for field in fields(QualityMetrics))


@dataclass(frozen=True)
class ConfusionMatrix:
    """How many samples fell in each cell; the second letter is what was predicted."""

    tn: int
    fp: int
    fn: int
    tp: int


def confusion(
    labels: ArrayLike, probabilities: ArrayLike, threshold: float = 0.5
) -> ConfusionMatrix:
    """Count the four cells; a sample is predicted positive where probability >= ``threshold``.

    Args:
        labels: ``(N,)`` of 0 and 1 (or bool).
        probabilities: ``(N,)`` in [0, 1], of the positive class.
        threshold: In [0, 1].

    Raises:
        ShapeError: The lengths differ.
        DataError: No sample, a label other than 0 and 1, or a probability outside [0, 1].
        UsageError: ``threshold`` is outside [0, 1].
    """
    truth, scores = checked(labels, probabilities, threshold=threshold)
    if len(scores) > 1:
        raise ShapeError(f"probabilities must have shape (N,), got {np.shape(probabilities)}")
    tn, fp, fn, tp = (int(cell.sum()) for cell in cells(truth, scores[0], threshold))
    return ConfusionMatrix(tn=tn, fp=fp, fn=fn, tp=tp)


def score_predictions(
    labels: ArrayLike, probabilities: ArrayLike, *, threshold: float = 0.5
) -> QualityMetrics:
    """The six metrics of one set of predictions; arguments and errors as in `confusion`.

    AUROC does not depend on ``threshold``. Values equal scikit-learn's wherever both are defined.
    """
    matrix = confusion(labels, probabilities, threshold)
    counted = count_metrics(matrix.tn, matrix.fp, matrix.fn, matrix.tp)
    truth, scores = checked(labels, probabilities, threshold=threshold)
    area = RankedPairs(truth, scores[0]).auroc(np.ones((len(truth), 1)))[0]
    return QualityMetrics(**{k: float(v) for k, v in counted.items()}, auroc=float(area))


def checked(
    labels: ArrayLike, probabilities: ArrayLike, *, threshold: float
) -> tuple[Bools, Floats]:
    """Labels as ``(N,)`` bool and probabilities as ``(S, N)`` float64, or one clear error."""
    if not 0 <= threshold <= 1:
        raise UsageError(f"threshold must be in [0, 1], got {threshold}")
    truth, scores = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or scores.ndim not in (1, 2) or scores.shape[-1] != len(truth):
        raise ShapeError(
            "labels must have shape (N,) and probabilities (N,) or (S, N) with the same N, "
            f"got {truth.shape} and {scores.shape}"
        )
    if scores.size == 0:
        raise DataError("there is no prediction to score: expected at least one, got none")
    strange = truth[(truth != 0) & (truth != 1)]
    if strange.size:
        raise DataError(f"labels must be 0 or 1 (1 is the target class), got {strange[0]!r}")
    wrong = scores[~((scores >= 0) & (scores <= 1))]
    if wrong.size:
        raise DataError(
            f"probabilities must be in [0, 1], got {wrong[0]} ({wrong.size} of {scores.size} are "
            "outside); pass probabilities, not logits"
        )
    return truth.astype(bool), np.atleast_2d(scores)


def cells(truth: Bools, scores: Floats, threshold: float) -> tuple[Bools, Bools, Bools, Bools]:
    """Membership of each sample in tn, fp, fn and tp, ``(N,)`` each."""
    predicted = scores >= threshold
    return ~truth & ~predicted, ~truth & predicted, truth & ~predicted, truth & predicted


def count_metrics(tn: Any, fp: Any, fn: Any, tp: Any) -> dict[str, Floats]:
    """The five metrics that need counts only, from (weighted) counts of any one shape."""
    tn, fp, fn, tp = (np.asarray(count, dtype=np.float64) for count in (tn, fp, fn, tp))
    recall = _ratio(tp, tp + fn)
    return {
        "accuracy": _ratio(tp + tn, tn + fp + fn + tp),
        "balanced_accuracy": (recall + _ratio(tn, tn + fp)) / 2,
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


class RankedPairs:
    """Positives and negatives of one set of predictions, ranked once for many weightings.

    AUROC is the share of (positive, negative) pairs that are in the right order, a tie counting
    half: the Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982). With the negatives
    sorted, the weight of those below each positive is one cumulative sum, for all weightings.
    """

    def __init__(self, truth: Bools, scores: Floats) -> None:
        negatives = np.flatnonzero(~truth)
        self._negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        self._positives = np.flatnonzero(truth)
        ranked, wanted = scores[self._negatives], scores[self._positives]
        self._below = np.searchsorted(ranked, wanted, side="left")
        self._not_above = np.searchsorted(ranked, wanted, side="right")

    def auroc(self, weights: Floats) -> Floats:
        """``(B,)`` areas for ``(N, B)`` weights >= 0; NaN where one class has no weight."""
        negative = weights[self._negatives]
        cumulative = np.zeros((len(negative) + 1, weights.shape[1]))
        np.cumsum(negative, axis=0, out=cumulative[1:])
        positive = weights[self._positives]
        won = np.einsum("ib,ib->b", positive, cumulative[self._below])
        won += np.einsum("ib,ib->b", positive, cumulative[self._not_above])
        return _ratio(won / 2, positive.sum(axis=0) * cumulative[-1])


def _ratio(part: Floats, whole: Floats) -> Floats:
    undefined = np.full(np.broadcast(part, whole).shape, np.nan)
    return np.divide(part, whole, out=undefined, where=whole > 0)
