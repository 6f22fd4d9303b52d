"""Which candidate to keep: the decision function, limits, and the Pareto front.

Every number here is measured on the **validation** split. The test split is only reported, never
chosen on: the best of many noisy candidates looks better than it is on the data that chose it.

The decision function adds what a candidate keeps and what it saves, the unpruned network
(index 0) being the measure of both:

    score = w_q F1/F1_0 + w_p (1 - P/P_0) + w_t (1 - t/t_0)

with P parameters and t the latency. The published form (2021) is F1/F1_0 + (1 - P/P_0); see
``docs/explanation/choice.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finicky.errors import DataError, ShapeError, UsageError, nearest_names

Decision = Literal["weighted", "published"]

MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class CandidateMeasure:
    """What the choice needs to know of one network, quality on the validation split.

    ``f1``, ``recall``, ``accuracy`` in [0, 1], NaN where undefined; ``latency_ms`` NaN where not
    measured. ``latency_ratio`` is the unpruned network's time over this one's, measured in turn;
    where given, it stands for t_0/t in the score, because it does not drift as milliseconds do.
    """

    name: str
    keep_ratio: float
    f1: float
    params: int
    latency_ms: float
    size_bytes: int
    recall: float = math.nan
    accuracy: float = math.nan
    latency_ratio: float | None = None


@dataclass(frozen=True)
class Weights:
    """Weights of the three terms, each at least 0, not all 0.

    With the defaults all savings together can outweigh a loss of at most 40 % of F1_0, and going
    from 10 to 20 times faster is worth 1.5 %. On simulated sweeps 84 % of the choices were ten
    times faster or more, and they lost 1.2 points of F1 in the mean; on CFD's validation photos
    these were the smallest weights that chose a network eight times faster in each of three
    divisions (``docs/explanation/choice.md``).
    """

    quality: float = 1.0
    params: float = 0.1
    time: float = 0.3

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if not 0 <= value < math.inf:
                raise UsageError(f"the weight {name} must be a number >= 0, got {value}")
        if not any(values.values()):
            raise UsageError("at least one of the weights must be above 0, got 0 for all")


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Limits that the chosen network must keep; None = no limit.

    ``max_size_mb`` in MB of 10^6 bytes. ``max_f1_drop`` is how much F1 may be lost against the
    unpruned network, in absolute terms: 0.01 is one point.
    """

    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    max_params: float | None = None
    min_recall: float | None = None
    min_f1: float | None = None
    min_accuracy: float | None = None
    max_f1_drop: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            share = field.name.startswith("min_") or field.name == "max_f1_drop"
            if value is None:
                continue
            if share and not 0 <= value <= 1:
                raise UsageError(f"{field.name} must be in [0, 1], got {value}")
            if not share and not 0 < value < math.inf:
                raise UsageError(f"{field.name} must be above 0, got {value}")


@dataclass(frozen=True)
class Choice:
    """The chosen candidate and, in the order of the candidates, why.

    ``scores`` holds the decision function (NaN where it cannot be computed), ``feasible`` whether
    a candidate keeps all limits, ``reasons`` why one was out of the question ("" where it was not).
    """

    chosen: CandidateMeasure
    index: int
    scores: tuple[float, ...]
    feasible: tuple[bool, ...]
    reasons: tuple[str, ...]


def choose(
    candidates: Sequence[CandidateMeasure],
    reference: CandidateMeasure,
    *,
    decision: Decision = "weighted",
    weights: Weights | None = None,
    constraints: Constraints | None = None,
) -> Choice:
    """The candidate with the best score among those that keep all limits, on validation numbers.

    Ties go to fewer parameters, then to the shorter latency, then to the name. The reference is
    chosen only if it is among the candidates.

    Args:
        candidates: At least one.
        reference: The unpruned network.
        decision: ``"weighted"`` or ``"published"`` (which has no weights).
        weights: Default `Weights`.
        constraints: Default none.

    Raises:
        DataError: No candidate keeps the limits (the message names the nearest), none has a score,
            or the reference lacks a number that the score divides by.
        UsageError: No candidate is given, the decision is unknown, or weights come with
            ``"published"``.
    """
    if not candidates:
        raise UsageError("there is no candidate to choose from: expected at least one, got none")
    score = _decision(decision, weights)
    limits = _limits(constraints or Constraints(), reference)
    scores = tuple(score(candidate, reference) for candidate in candidates)
    broken = [[limit for limit in limits if not limit.kept_by(c)] for c in candidates]
    if all(broken):
        raise DataError(_nobody(candidates, limits))
    index = _best(candidates, scores, broken)
    return Choice(
        chosen=candidates[index],
        index=index,
        scores=scores,
        feasible=tuple(not limits_broken for limits_broken in broken),
        reasons=tuple(map(_reason, candidates, scores, broken)),
    )


def decision_score(
    candidate: CandidateMeasure, reference: CandidateMeasure, weights: Weights | None = None
) -> float:
    """``w_q F1/F1_0 + w_p (1 - P/P_0) + w_t (1 - t/t_0)`` on validation numbers, higher is better.

    A term of weight 0 is left out, so what it needs may be missing. A candidate that lacks a number
    scores NaN. Where F1_0 is 0 (the unpruned network found nothing) F1 itself is the first term:
    the order among candidates stays sensible.

    Raises:
        DataError: A number of the reference that is divided by is missing or not above 0.
    """
    weights = weights or Weights()
    score = 0.0
    if weights.quality:
        score += weights.quality * (candidate.f1 / (_known_f1(reference) or 1.0))
    if weights.params:
        score += weights.params * (1 - candidate.params / _positive(reference, "params"))
    if weights.time:
        score += weights.time * (1 - _time_share(candidate, reference))
    return score


def published_score(candidate: CandidateMeasure, reference: CandidateMeasure) -> float:
    """``F1/F1_0 + (1 - P/P_0)``: the published decision function, on validation numbers.

    The published table adds 1 and ``(1 - A/A_0)/46.3`` with A the accuracy; both are left out: the
    first changes no order, the second rewards a *loss* of accuracy, by at most 0.011.
    """
    return decision_score(candidate, reference, Weights(quality=1, params=1, time=0))


def pareto_front(quality: ArrayLike, cost: ArrayLike) -> NDArray[np.bool_]:
    """Which candidates no other beats: at least as good and as cheap, and better in one.

    Args:
        quality: ``(N,)``, higher is better, on the validation split.
        cost: ``(N,)``, lower is better (parameters, latency, size).

    Returns:
        ``(N,)`` bool. Equal candidates are all on the front; one with a NaN never is.

    Raises:
        ShapeError: The two differ in shape or are not one-dimensional.
    """
    good, dear = np.asarray(quality, dtype=np.float64), np.asarray(cost, dtype=np.float64)
    if good.ndim != 1 or good.shape != dear.shape:
        raise ShapeError(f"quality and cost must both be (N,), got {good.shape} and {dear.shape}")
    # [i, j]: does j beat i? Any comparison with NaN is False.
    as_good = (good >= good[:, None]) & (dear <= dear[:, None])
    better = (good > good[:, None]) | (dear < dear[:, None])
    return ~(as_good & better).any(axis=1) & ~np.isnan(good) & ~np.isnan(dear)


Score = Callable[[CandidateMeasure, CandidateMeasure], float]


def _decision(decision: str, weights: Weights | None) -> Score:
    if decision not in get_args(Decision):
        known = nearest_names(decision, get_args(Decision))
        raise UsageError(f"no decision function named {decision!r}. {known}")
    if decision == "weighted":
        return lambda candidate, reference: decision_score(candidate, reference, weights)
    if weights is not None:
        raise UsageError("the published decision has no weights: leave them out, or use 'weighted'")
    return published_score


def _known_f1(reference: CandidateMeasure) -> float:
    if math.isnan(reference.f1):
        raise DataError(
            "the unpruned network's F1 on validation is undefined: the validation split needs "
            "photos of the target class"
        )
    return reference.f1


def _positive(reference: CandidateMeasure, name: str) -> float:
    value = float(getattr(reference, name))
    if not 0 < value < math.inf:
        raise DataError(
            f"the unpruned network's {name} must be above 0 to compare with, got {value}; "
            "give that term the weight 0 to leave it out"
        )
    return value


def _time_share(candidate: CandidateMeasure, reference: CandidateMeasure) -> float:
    if candidate.latency_ratio is not None:
        return 1 / candidate.latency_ratio if candidate.latency_ratio > 0 else math.nan
    return candidate.latency_ms / _positive(reference, "latency_ms")


def _best(
    candidates: Sequence[CandidateMeasure], scores: Sequence[float], broken: Sequence[list[_Limit]]
) -> int:
    able = [i for i in range(len(scores)) if not broken[i] and not math.isnan(scores[i])]
    if not able:
        raise DataError(
            "no candidate has a score: F1, parameters or latency on validation are undefined for "
            "all that keep the limits"
        )
    return min(able, key=lambda i: (-scores[i], *_tie_break(candidates[i])))


def _tie_break(candidate: CandidateMeasure) -> tuple[float, float, str]:
    latency = math.inf if math.isnan(candidate.latency_ms) else candidate.latency_ms
    return candidate.params, latency, candidate.name


def _reason(candidate: CandidateMeasure, score: float, broken: list[_Limit]) -> str:
    if broken:
        return "; ".join(f"{limit.told(candidate)}, {limit}" for limit in broken)
    return "no score: a number is undefined" if math.isnan(score) else ""


@dataclass(frozen=True)
class _Limit:
    """One limit: a value of the candidate, and the most or the least that it may be."""

    label: str
    unit: str
    value_of: Callable[[CandidateMeasure], float]
    bound: float
    at_most: bool

    def __str__(self) -> str:
        word = "at most" if self.at_most else "at least"
        return f"{self.label} {word} {_figure(self.bound)}{self.unit}"

    def told(self, candidate: CandidateMeasure) -> str:
        return f"{self.label} {_figure(self.value_of(candidate))}{self.unit}"

    def kept_by(self, candidate: CandidateMeasure) -> bool:
        # The margin is for sums such as 0.9 - 0.05, which is not quite 0.85.
        return self.violation(candidate) <= 1e-9

    def violation(self, candidate: CandidateMeasure) -> float:
        """How far beyond the limit, as a share of it; 0 or below = kept, infinite = unknown."""
        value = self.value_of(candidate)
        if math.isnan(value):
            return math.inf
        beyond = value - self.bound if self.at_most else self.bound - value
        return beyond / self.bound if self.bound else beyond


def _limits(constraints: Constraints, reference: CandidateMeasure) -> list[_Limit]:
    c, least_f1 = constraints, None
    if c.max_f1_drop is not None:
        least_f1 = max(0.0, _known_f1(reference) - c.max_f1_drop)
    rows = [
        ("latency", " ms", lambda m: m.latency_ms, c.max_latency_ms, True),
        ("size", " MB", lambda m: m.size_bytes / MEGABYTE, c.max_size_mb, True),
        ("parameters", "", lambda m: float(m.params), c.max_params, True),
        ("recall", "", lambda m: m.recall, c.min_recall, False),
        ("F1", "", lambda m: m.f1, c.min_f1, False),
        ("accuracy", "", lambda m: m.accuracy, c.min_accuracy, False),
        ("F1", "", lambda m: m.f1, least_f1, False),
    ]
    return [
        _Limit(label, unit, value_of, bound, at_most)
        for label, unit, value_of, bound, at_most in rows
        if bound is not None
    ]


def _nobody(candidates: Sequence[CandidateMeasure], limits: Sequence[_Limit]) -> str:
    def distance(candidate: CandidateMeasure) -> tuple[float, float, float, str]:
        worst = max(limit.violation(candidate) for limit in limits)
        return worst, *_tie_break(candidate)

    nearest = min(candidates, key=distance)
    return (
        f"none of {len(candidates)} candidates has {' and '.join(map(str, limits))}; the nearest, "
        f"{nearest.name}, has {' and '.join(limit.told(nearest) for limit in limits)}. "
        "Relax a limit or add candidates"
    )


def _figure(value: float) -> str:
    """Four significant digits, whole numbers in full: 0.9512, 6.25, 14714688."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
