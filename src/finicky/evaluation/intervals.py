"""95 % intervals for the metrics, from whole photographs drawn again.

Tiles of one photograph are alike, so the sample that counts is the *group* (a source photograph,
or a set of near duplicates), not the tile. A percentile bootstrap (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, ch. 13; Davison and Hinkley, "Bootstrap Methods and their
Application", 1997, ch. 5) draws whole groups with replacement: the cluster bootstrap (Field and
Welsh, JRSS B 69, 2007). Drawing single tiles instead would make the intervals too narrow.

Limits to know: with few groups the intervals are too narrow (a simulation with 8 tiles a photo:
95 % intervals held the truth in 85 % of cases with 5 photos, 92 % with 10, 94 % from 20 on); and
they speak of new photographs like these, not of other surfaces or cameras.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finicky.errors import ShapeError, UsageError
from finicky.evaluation.metrics import (
    METRICS,
    Bools,
    Floats,
    RankedPairs,
    cells,
    checked,
    count_metrics,
)

# What one block of resamples may take; a few such arrays live at once, well below 200 MB.
BLOCK_BYTES = 32_000_000


@dataclass(frozen=True)
class Interval:
    """A value and its percentile interval.

    ``value`` is that of the data itself, NaN where undefined. ``draws`` resamples counted and
    ``dropped`` were left out because the metric was undefined there. ``low`` and ``high`` are NaN
    where no interval can be given; ``reason`` then says why. It also warns where an interval at 0
    or 1 has no width only because no exception was seen. It is empty otherwise.
    """

    value: float
    low: float
    high: float
    draws: int
    dropped: int = 0
    reason: str = ""


def bootstrap_metrics(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike,
    *,
    threshold: float = 0.5,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Every metric of `METRICS` with its cluster-bootstrap interval.

    Args:
        labels: ``(N,)`` of 0 and 1.
        probabilities: ``(N,)`` in [0, 1]; or ``(S, N)`` for S trainings of the head, when a
            metric is the mean over the S inside each resample (undefined for one of them is
            undefined).
        groups: ``(N,)`` of any sortable kind: the source photograph of each sample.
        threshold: Predicted positive where probability >= threshold.
        resamples: At least 1; 2000 keep the ends steady to about a tenth of the width.
        seed: The same seed, groups and resamples draw the same groups.
        level: Coverage in (0, 1).

    Raises:
        ShapeError: The lengths differ.
        DataError: As in `finicky.evaluation.metrics.confusion`.
        UsageError: ``resamples``, ``level`` or ``threshold`` is out of range.
    """
    truth, scores = checked(labels, probabilities, threshold=threshold)
    plan = _Plan.of(groups, len(truth), resamples=resamples, seed=seed)
    _check_level(level)
    values = _metrics_by_draw(truth, scores, plan.whole_sample(), threshold)
    draws = _metrics_by_draw(truth, scores, plan, threshold)
    return {
        name: _interval(value[0], drawn, plan, level, warn_no_width=True)
        for name, value, drawn in zip(METRICS, values, draws, strict=True)
    }


def bootstrap_difference(
    labels: ArrayLike,
    probabilities_a: ArrayLike,
    probabilities_b: ArrayLike,
    groups: ArrayLike,
    *,
    threshold: float = 0.5,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Metric of ``a`` minus metric of ``b`` on the same samples, with the same resamples for both.

    What both find hard or easy cancels, so this is narrower than two intervals side by side.
    A gain is shown where ``low`` > 0. Arguments and errors as in `bootstrap_metrics`; the number
    of head trainings may differ between ``a`` and ``b``.
    """
    truth, scores_a = checked(labels, probabilities_a, threshold=threshold)
    truth, scores_b = checked(labels, probabilities_b, threshold=threshold)
    plan = _Plan.of(groups, len(truth), resamples=resamples, seed=seed)
    _check_level(level)
    whole = plan.whole_sample()
    values = _metrics_by_draw(truth, scores_a, whole, threshold)
    values -= _metrics_by_draw(truth, scores_b, whole, threshold)
    draws = _metrics_by_draw(truth, scores_a, plan, threshold)
    draws -= _metrics_by_draw(truth, scores_b, plan, threshold)
    return {
        name: _interval(value[0], drawn, plan, level, warn_no_width=False)
        for name, value, drawn in zip(METRICS, values, draws, strict=True)
    }


@dataclass(frozen=True)
class _Plan:
    """Which group each sample is of, and how often each group is drawn in each resample."""

    group_of: NDArray[np.intp]
    group_count: int
    resamples: int
    seed: int | None

    @staticmethod
    def of(groups: ArrayLike, samples: int, *, resamples: int, seed: int) -> _Plan:
        if resamples < 1:
            raise UsageError(f"resamples must be at least 1, got {resamples}")
        names = np.asarray(groups)
        if names.shape != (samples,):
            raise ShapeError(f"groups must have shape ({samples},) like labels, got {names.shape}")
        known, group_of = np.unique(names, return_inverse=True)
        return _Plan(group_of, len(known), resamples, seed)

    def whole_sample(self) -> _Plan:
        """The plan with one "resample": every group once."""
        return _Plan(self.group_of, self.group_count, resamples=1, seed=None)

    def blocks(self) -> Iterator[Floats]:
        """``(G, B)`` counts, B resamples at a time; how they are cut changes no number."""
        size = max(1, BLOCK_BYTES // (8 * max(len(self.group_of), self.group_count)))
        generator = np.random.default_rng(self.seed)
        for start in range(0, self.resamples, size):
            width = min(size, self.resamples - start)
            if self.seed is None:
                yield np.ones((self.group_count, width))
            else:
                yield self._draw(generator, width)

    def _draw(self, generator: np.random.Generator, width: int) -> Floats:
        drawn = generator.integers(self.group_count, size=(width, self.group_count))
        drawn += self.group_count * np.arange(width)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=width * self.group_count)
        return np.ascontiguousarray(counts.reshape(width, -1).T, dtype=np.float64)


def _metrics_by_draw(truth: Bools, scores: Floats, plan: _Plan, threshold: float) -> Floats:
    """``(metrics, resamples)``: each metric, mean over the head trainings, for each resample."""
    predictors = [_Predictor.of(truth, row, plan, threshold) for row in scores]
    blocks = []
    for counts in plan.blocks():
        weights = counts[plan.group_of]
        blocks.append(np.mean([p.metrics(counts, weights) for p in predictors], axis=0))
    return np.concatenate(blocks, axis=1)


@dataclass(frozen=True)
class _Predictor:
    """One training's predictions, reduced to what every resample needs of them."""

    cells_by_group: Floats
    pairs: RankedPairs

    @staticmethod
    def of(truth: Bools, scores: Floats, plan: _Plan, threshold: float) -> _Predictor:
        by_group = [
            np.bincount(plan.group_of, weights=cell, minlength=plan.group_count)
            for cell in cells(truth, scores, threshold)
        ]
        return _Predictor(np.stack(by_group), RankedPairs(truth, scores))

    def metrics(self, counts: Floats, weights: Floats) -> Floats:
        """``(metrics, B)`` for ``(G, B)`` counts and the ``(N, B)`` weights made of them."""
        counted = count_metrics(*(self.cells_by_group @ counts))
        return np.stack([*counted.values(), self.pairs.auroc(weights)])


def _interval(
    value: float, draws: Floats, plan: _Plan, level: float, *, warn_no_width: bool
) -> Interval:
    kept = draws[~np.isnan(draws)]
    dropped = len(draws) - len(kept)
    reason = _missing_because(value, len(kept), dropped, plan.group_count)
    if reason:
        return Interval(float(value), math.nan, math.nan, len(kept), dropped, reason)
    tail = (1 - level) / 2
    low, high = (float(end) for end in np.quantile(kept, [tail, 1 - tail]))
    if warn_no_width and low == high and value in (0, 1):
        # None seen among n leaves up to 3/n (95 %): Hanley and Lippman-Hand, JAMA 249, 1983.
        unseen = min(1.0, 3 / plan.group_count)
        reason = (
            "all resamples agree, so the interval has no width, yet with "
            f"{plan.group_count} groups a share of {unseen:.1%} the other way cannot be ruled out"
        )
    return Interval(float(value), low, high, len(kept), dropped, reason)


def _missing_because(value: float, kept: int, dropped: int, group_count: int) -> str:
    if math.isnan(value):
        return "the metric is undefined for these predictions"
    if group_count < 2:
        return "an interval needs at least 2 groups (source photographs), got 1"
    if dropped > kept:
        return f"the metric was undefined in {dropped} of {dropped + kept} resamples"
    return ""


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"level must be in (0, 1), got {level}. Did you mean 0.95?")
