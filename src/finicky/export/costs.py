"""What a cut network will cost as a file on this machine, before any filter is scored."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from finicky.backbones import Backbone
from finicky.export.classifier import Classifier
from finicky.export.onnx_file import HEAD_TOLERANCE, export_onnx
from finicky.importance import original_counts
from finicky.progress import Progress, silent
from finicky.pruning import (
    Allocation,
    ChannelGroup,
    PruningPlan,
    cut,
    find_groups,
    plan_from_kept,
    plan_from_scores,
)
from finicky.pruning.budget import STEP, Budget, largest_ratio, refused
from finicky.pruning.check import expected_counts, removed_channels
from finicky.timing import measure_in_turn
from finicky.training import LogisticHead

_SECONDS = 0.5
_FIRST_GUESS = 0.1
# A measured cut this near to the limit is near enough; the next guess aims a little lower than it.
_NEAR, _AIM, _MOST_MEASURED = 0.95, 0.98, 6


class Ranked(Protocol):
    """Makes plans of a network's groups, as `finicky.ranking.FinickyRanking` does."""

    @property
    def groups(self) -> Sequence[ChannelGroup]: ...

    def plan(self, keep_ratio: float) -> PruningPlan:
        """What stays at a keep ratio."""
        ...


class NetworkCosts:
    """Cost of a backbone at any keep ratio; shapes decide it, whichever filters stay.

    Args:
        backbone: Unpruned.
        size: Side of a tile in px.
        plan: What stays at a keep ratio.
        groups: From `find_groups`.
        progress: Told of measurements.
    """

    def __init__(
        self,
        backbone: Backbone,
        size: int,
        plan: Callable[[float], PruningPlan],
        groups: Sequence[ChannelGroup],
        *,
        progress: Progress = silent,
    ) -> None:
        self._backbone, self._size, self._plan = backbone, size, plan
        self._groups, self._progress = groups, progress
        self._measured: dict[float, dict[str, float]] = {}

    def counted(self, quantity: str, keep_ratio: float) -> float:
        """``params`` or ``macs``, worked out from the plan."""
        removed = removed_channels(self._groups, self._plan(keep_ratio).decisions)
        counts = expected_counts(self._backbone.module, removed, self._size)
        return counts.params if quantity == "params" else counts.macs

    def measured(self, quantity: str, keep_ratio: float) -> float:
        """``size`` in bytes or ``latency`` in ms of a cut of that shape with an untrained head."""
        if keep_ratio not in self._measured:
            done = len(self._measured)
            self._progress("fit the budget", done, done + 1)
            self._measured[keep_ratio] = self._measure(self._plan(keep_ratio))
        return self._measured[keep_ratio][quantity]

    def largest(self, budget: Budget) -> float:
        """The largest keep ratio that keeps a budget, in steps of `STEP`.

        Size and latency rise with parameters and MACs: a few cuts are exported and measured, and
        what lies between them is interpolated; the one that is returned was measured.

        Raises:
            UsageError: Even the smallest cut costs more; the message says how much.
        """
        if budget.quantity in ("params", "macs"):
            return largest_ratio(
                lambda ratio: self.counted(budget.quantity, ratio), budget, self._backbone.name
            )
        guide = "params" if budget.quantity == "size" else "macs"
        limit = budget.absolute(self.measured(budget.quantity, 1.0) if budget.relative else 0.0)
        known = {STEP: self.measured(budget.quantity, STEP)}
        if known[STEP] > limit:
            raise refused(budget, known[STEP], limit, self._backbone.name)
        sizes = _Sizes(lambda ratio: self.counted(guide, ratio))
        best, ratio = STEP, _FIRST_GUESS
        for _ in range(_MOST_MEASURED):
            known[ratio] = self.measured(budget.quantity, ratio)
            if known[ratio] <= limit:
                best = max(best, ratio)
                if known[ratio] >= _NEAR * limit or ratio == 1:
                    break
            ratio = sizes.guess(known, limit)
            if ratio in known:
                break
        return best

    def _measure(self, plan: PruningPlan) -> dict[str, float]:
        module = cut(self._backbone.module, plan.decisions, self._size, verify=False)
        smaller = self._backbone.with_module(module)
        channels = _last_channels(smaller, self._size)
        head = LogisticHead(np.zeros(2 * channels, dtype=np.float32), 0.0, 1.0, float("nan"))
        tile = np.random.default_rng(0).integers(
            256, size=(1, self._size, self._size, 3), dtype=np.uint8
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(
                Classifier(smaller, "mean+max", head),
                path,
                size=self._size,
                class_names=("not target", "target"),
                tiles=tile,
                metadata={},
                tolerance=HEAD_TOLERANCE,
            )
            timed = measure_in_turn(
                path, [], inputs=tile, threads=1, seconds_per_candidate=_SECONDS
            )
            return {"size": path.stat().st_size, "latency": timed.reference.p50_ms}


@dataclass
class _Sizes:
    """What guides the guesses at a measured cost: parameters or MACs by keep ratio."""

    count: Callable[[float], float]

    def guess(self, known: Mapping[float, float], limit: float) -> float:
        """The largest ratio that should keep the limit, by a straight line between two known."""
        ratios = sorted(known)
        sizes = [self.count(ratio) for ratio in ratios]
        costs = np.maximum.accumulate([known[ratio] for ratio in ratios])
        above = [i for i, cost in enumerate(costs) if cost > limit]
        first, second = (above[0] - 1, above[0]) if above else (len(ratios) - 2, len(ratios) - 1)
        rise = (costs[second] - costs[first]) / max(sizes[second] - sizes[first], 1)
        reach = sizes[first] + (_AIM * limit - costs[first]) / max(rise, 1e-30)
        steps = range(1, round(1 / STEP) + 1)
        found = bisect_right(steps, reach, key=lambda step: self.count(round(step * STEP, 6)))
        return round(max(1, found) * STEP, 6)


def uniform_costs(
    backbone: Backbone,
    *,
    size: int,
    method: str = "finicky",
    allocation: Allocation | None = None,
    progress: Progress = silent,
) -> NetworkCosts:
    """Costs when all groups are cut alike.

    Args:
        backbone: Unpruned.
        size: Side of a tile in px.
        method: ``original`` has its own number of channels, whatever the allocation.
        allocation: Its rounding and least number of channels; the kind is not read.
        progress: Told of measurements.
    """
    groups = find_groups(backbone.module, size)
    rule = allocation or Allocation()
    uniform = Allocation("uniform", rule.min_channels, rule.round_to)

    def plan(ratio: float) -> PruningPlan:
        if method == "original":
            counts = original_counts(backbone.module, ratio, least=1)
            kept = {name: range(count) for name, count in counts.items()}
            return plan_from_kept(
                kept, ratio, backbone=backbone.name, method=method, criterion="none"
            )
        return plan_from_scores(
            groups, {}, ratio, backbone=backbone.name, criterion="none", allocation=uniform
        )

    return NetworkCosts(backbone, size, plan, groups, progress=progress)


def fit_budgets(
    backbone: Backbone,
    budgets: Sequence[Budget],
    *,
    size: int,
    method: str = "finicky",
    allocation: Allocation | None = None,
    progress: Progress = silent,
) -> float:
    """The largest keep ratio that keeps every budget when all groups are cut alike.

    Arguments as for `uniform_costs`.

    Raises:
        UsageError: Even the smallest cut costs more.
    """
    costs = uniform_costs(
        backbone, size=size, method=method, allocation=allocation, progress=progress
    )
    return min(costs.largest(budget) for budget in budgets)


def fit_plans(
    backbone: Backbone,
    budgets: Sequence[Budget],
    ranking: Ranked,
    *,
    size: int,
    progress: Progress = silent,
) -> float:
    """The same for plans whose shape depends on the scores."""
    costs = NetworkCosts(backbone, size, ranking.plan, ranking.groups, progress=progress)
    return min(costs.largest(budget) for budget in budgets)


def _last_channels(backbone: Backbone, size: int) -> int:
    import torch

    with torch.inference_mode():
        return int(backbone.module(torch.zeros(1, 3, size, size)).shape[1])
