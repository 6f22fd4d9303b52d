"""Which keep ratios are worth looking at: a search that a person could follow on paper.

A **glance** trains the head on a share of the training photographs and asks validation; it costs a
fraction of a full evaluation. The search glances at a coarse grid, halves the gaps around the best
and along the Pareto front (quality against multiply-accumulates), looks longer at the best few
(successive halving), evaluates the best of those in full, and looks at the winner's neighbours. It
ends when no ratio that was left out could lead by more than the tolerance, going by the scatter of
the glances, or when as many looks as are allowed were taken.

Every decision follows from the looks alone: a search that was stopped and goes on decides as if it
had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from finicky.selection import pareto_front

COARSE = (0.02, 0.04, 0.07, 0.1, 0.14, 0.19, 0.25, 0.32, 0.4, 0.5, 0.62, 0.8)


@dataclass(frozen=True)
class SearchSettings:
    """How thoroughly is searched.

    Attributes:
        grid: Keep ratios that may be tried, ascending; the unpruned network is always evaluated.
        shares: Of the training photographs, in glances: the first for all, the second for the best.
        rounds: How often gaps are halved around the best, and along the front.
        halved: How many of the best are looked at with the second share.
        evaluated: How many of those are evaluated in full.
        most_glances: After which no more gaps are filled.
        tolerance: In units of the decision function: what a better choice must be worth.
    """

    grid: tuple[float, ...] = tuple(k / 100 for k in range(1, 100))
    shares: tuple[float, float] = (0.25, 0.5)
    rounds: int = 3
    halved: int = 6
    evaluated: int = 4
    most_glances: int = 36
    tolerance: float = 0.01

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From a plain value, as `asdict` and JSON make it."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in value.items()
        }
        return cls(**fields)

    @property
    def usually_evaluated(self) -> int:
        """How many ratios below 1 are evaluated in full, if no gap looks better at the end."""
        return min(self.evaluated + self.rounds, len(self.grid))


@dataclass(frozen=True)
class Look:
    """One ratio looked at; ``share`` 1 is a full evaluation.

    Attributes:
        keep_ratio: In (0, 1].
        share: Of the training photographs.
        score: Decision function on validation, time by multiply-accumulates.
        quality: What the score is made from: F1 on validation, NaN where undefined.
    """

    keep_ratio: float
    share: float
    score: float
    quality: float


@dataclass(frozen=True)
class Step:
    """What to do next, and why.

    ``share`` 1: evaluate ``ratios`` in full. ``last``: the search is over.
    """

    ratios: tuple[float, ...]
    share: float
    why: str
    last: bool = False


@dataclass
class Search:
    """Turns looks into the next step.

    Args:
        settings: How thoroughly is searched.
        macs: Multiply-accumulates of each ratio of the grid; they are known without looking.
    """

    settings: SearchSettings
    macs: Mapping[float, float]
    _looks: dict[tuple[float, float], Look] = field(default_factory=dict)

    def step(self, looks: Sequence[Look]) -> Step:
        """The next step, given all looks so far, whatever their order."""
        self._looks = {(look.keep_ratio, look.share): look for look in looks}
        for step in self._steps():
            missing = tuple(r for r in step.ratios if (r, step.share) not in self._looks)
            if missing or step.last:
                return Step(missing, step.share, step.why, step.last)
        raise AssertionError("a search ends with a last step")

    def trail(self, looks: Sequence[Look]) -> list[Step]:
        """All steps of a search that is over, each with what it was the first to ask for."""
        self._looks = {(look.keep_ratio, look.share): look for look in looks}
        asked: set[tuple[float, float]] = set()
        found = []
        for step in self._steps():
            fresh = tuple(r for r in step.ratios if (r, step.share) not in asked)
            asked |= {(r, step.share) for r in fresh}
            if fresh or step.last:
                found.append(Step(fresh, step.share, step.why, step.last))
        return found

    def _steps(self) -> Iterator[Step]:
        """All steps in order; each is made from looks that the ones before asked for."""
        few, more = self.settings.shares
        yield Step((1.0,), 1.0, "the unpruned network is what all are compared with")
        tried = {min(self.settings.grid, key=lambda r: abs(r - wanted)) for wanted in COARSE}
        yield Step(_ordered(tried), few, "a coarse grid")
        for _ in range(self.settings.rounds):
            gaps = self._gaps(tried, few)
            yield Step(
                _ordered(gaps), few, "halfway to the neighbours of the best, and on the front"
            )
            tried |= gaps
        best = self._best(tried, few, self.settings.halved)
        yield Step(best, more, f"the best {len(best)} of {len(tried)} glances, looked at longer")
        long = set(best)
        full = set(self._best(long, more, self.settings.evaluated))
        yield Step(_ordered(full), 1.0, f"the best {len(full)} of those, in full")
        for _ in range(self.settings.rounds):
            winner = self._best(full, 1.0, 1)[0]
            near = self._near(winner)
            yield Step(_ordered(near), more, f"the neighbours of {winner:g}, which leads")
            long |= near
            better = set(self._best(long, more, 1)) - full
            if not better:
                break
            yield Step(_ordered(better), 1.0, "it looks better than the leader")
            full |= better
        yield from self._fill(tried, full)

    def _fill(self, tried: set[float], full: set[float]) -> Iterator[Step]:
        """Look into gaps as long as something in them could lead."""
        few, more = self.settings.shares
        while True:
            winner = self._best(full, 1.0, 1)[0]
            hopes = self._hopes(tried, full)
            if not hopes:
                why = f"no ratio that was left out could lead by {self.settings.tolerance:g}"
                yield Step((), 1.0, f"{why}: {winner:g} is the choice", True)
                return
            if len(tried) >= self.settings.most_glances:
                why = f"{len(tried)} glances were allowed; {len(hopes)} ratios that were left out"
                yield Step((), 1.0, f"{why} might still lead by more than the tolerance", True)
                return
            hope = max(hopes, key=lambda r: (hopes[r], -r))
            yield Step((hope,), few, f"{hope:g} might lead by {hopes[hope]:.3f}")
            tried.add(hope)
            if not self._may_lead(hope, few, full):
                continue
            # A longer look costs a fraction of a full evaluation, and mostly says no.
            yield Step((hope,), more, "it looks better than the leader")
            if self._may_lead(hope, more, full):
                yield Step((hope,), 1.0, "looked at longer, it still looks better than the leader")
                full.add(hope)

    def _may_lead(self, ratio: float, share: float, full: set[float]) -> bool:
        """Whether a full evaluation might be better than the leader's, going by a glance."""
        winner = self._best(full, 1.0, 1)[0]
        expected = self._score(ratio, share) + self._offset(full, share)
        return expected > self._score(winner, 1.0)

    def _gaps(self, tried: set[float], share: float) -> set[float]:
        """Grid points halfway between the best, and members of the front, and their neighbours."""
        order = sorted(tried)
        (best,) = self._best(tried, share, 1)
        front = self._front(order, share)
        found = {r for r in self._halfway(order, best) if r is not None}
        place = front.index(best) if best in front else 0
        for member in front[max(0, place - 1) : place + 2]:
            upper = self._halfway(order, member)[1]
            if member != best and upper is not None:
                found.add(upper)
        return found

    def _halfway(self, order: list[float], ratio: float) -> tuple[float | None, float | None]:
        """The middle of the gap below a ratio and of the one above; ``None`` where it is closed."""
        grid, place = self.settings.grid, order.index(ratio)
        here = grid.index(ratio)
        below = grid.index(order[place - 1]) if place else -1
        above = grid.index(order[place + 1]) if place + 1 < len(order) else len(grid)
        low, high = (here + below) // 2 if here - below > 1 else -1, (here + above + 1) // 2
        return (
            grid[low] if low > below else None,
            grid[high] if here < high < above else None,
        )

    def _front(self, order: Sequence[float], share: float) -> list[float]:
        quality = [self._looks[r, share].quality for r in order]
        on = pareto_front(quality, [self.macs[r] for r in order])
        return [r for r, member in zip(order, on, strict=True) if member]

    def _near(self, ratio: float) -> set[float]:
        place = self.settings.grid.index(ratio) if ratio in self.settings.grid else None
        if place is None:
            return set()
        return set(self.settings.grid[max(0, place - 2) : place + 3])

    def _hopes(self, tried: set[float], full: set[float]) -> dict[float, float]:
        """By how much each untried ratio might lead, where that is more than the tolerance."""
        lead = self._score(self._best(full, 1.0, 1)[0], 1.0) + self.settings.tolerance
        scatter, offset = self._scatter(tried), self._offset(full, self.settings.shares[0])
        found = {}
        for ratio in self.settings.grid:
            if ratio not in tried and ratio not in full:
                above = self._between(ratio, tried) + offset + 2 * scatter - lead
                if above > 0:
                    found[ratio] = above
        return found

    def _between(self, ratio: float, tried: set[float]) -> float:
        """The score that the nearest glances on both sides lead to expect."""
        few = self.settings.shares[0]
        order = sorted(r for r in tried if math.isfinite(self._score(r, few)))
        if not order:
            return math.nan
        return float(np.interp(ratio, order, [self._score(r, few) for r in order]))

    def _scatter(self, tried: set[float]) -> float:
        """How far glances lie from the line between their neighbours: one standard deviation."""
        order = sorted(tried)
        off = []
        for number in range(1, len(order) - 1):
            here = self._score(order[number], self.settings.shares[0])
            rest = {order[number - 1], order[number + 1]}
            off.append(abs(here - self._between(order[number], rest)))
        # A point and the middle of two others: its variance is 1.5 times that of one point.
        known = [distance for distance in off if math.isfinite(distance)]
        typical = float(np.median(known)) if known else math.inf
        return 1.4826 * typical / math.sqrt(1.5)

    def _offset(self, full: set[float], share: float) -> float:
        """What a full evaluation adds to a glance at so many photographs, at most.

        Not in the mean: those that were evaluated were chosen because their glances were lucky.
        """
        both = [r for r in full if math.isfinite(self._score(r, share))]
        added = [self._score(r, 1.0) - self._score(r, share) for r in both]
        return max((a for a in added if math.isfinite(a)), default=0.0)

    def _best(self, ratios: set[float], share: float, count: int) -> tuple[float, ...]:
        """The ``count`` best by score; ties go to the smaller network."""
        ranked = sorted(ratios, key=lambda r: (-self._score(r, share), r))
        return tuple(ranked[:count])

    def _score(self, ratio: float, share: float) -> float:
        look = self._looks.get((ratio, share))
        return -math.inf if look is None or math.isnan(look.score) else look.score


def _ordered(ratios: set[float]) -> tuple[float, ...]:
    return tuple(sorted(ratios, reverse=True))


def simulate(search: Search, look: Callable[[float, float], Look]) -> tuple[list[Look], list[Step]]:
    """Run a search against a table instead of a network: for tests and for designing one."""
    looks: list[Look] = []
    steps: list[Step] = []
    while True:
        step = search.step(looks)
        steps.append(step)
        if step.last:
            return looks, steps
        looks += [look(ratio, step.share) for ratio in step.ratios]
