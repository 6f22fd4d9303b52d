"""A sweep within budgets: which keep ratios are tried, and what may be chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from finicky.backbones import Backbone
from finicky.export.costs import uniform_costs
from finicky.importance import original_counts
from finicky.progress import Progress, silent
from finicky.pruning import Allocation
from finicky.pruning.budget import Budget
from finicky.sweep.search import SearchSettings
from finicky.sweep.settings import DecisionSettings, SweepSettings


@dataclass(frozen=True)
class Limit:
    """What budgets leave of a sweep.

    The unpruned network is still measured, to compare with, but can only be chosen if it keeps the
    budgets too: the choice gets a limit on parameters.

    Attributes:
        keep_ratio: The largest that keeps every budget; 1 where the unpruned network does.
        max_params: What a network of that ratio has.
    """

    keep_ratio: float = 1.0
    max_params: float = math.inf

    def settings(self, settings: SweepSettings) -> SweepSettings:
        """The largest keep ratio that keeps the budgets, and those of the settings below it."""
        if self.keep_ratio == 1:
            return settings
        return replace(settings, keep_ratios=self._up_to(settings.keep_ratios))

    def search(self, search: SearchSettings | None) -> SearchSettings | None:
        """The same search among ratios that keep the budgets."""
        if search is None or self.keep_ratio == 1:
            return search
        return replace(search, grid=self._up_to(search.grid))

    def decision(self, decision: DecisionSettings) -> DecisionSettings:
        """The same choice among networks that keep the budgets."""
        if self.keep_ratio == 1:
            return decision
        asked = decision.constraints
        most = min(self.max_params, math.inf if asked.max_params is None else asked.max_params)
        return replace(decision, constraints=replace(asked, max_params=most))

    def to_json(self) -> dict[str, Any] | None:
        """A plain value for JSON; ``None`` where everything is within."""
        return None if self.keep_ratio == 1 else asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any] | None) -> Self:
        """The inverse of `to_json`."""
        return cls(**value) if value else cls()

    def _up_to(self, ratios: Sequence[float]) -> tuple[float, ...]:
        return tuple(sorted({r for r in ratios if r <= self.keep_ratio} | {self.keep_ratio}))


def limit_of(
    backbone: Backbone,
    settings: SweepSettings,
    budgets: Sequence[Budget],
    *,
    progress: Progress = silent,
) -> Limit:
    """How large a cut network may be to keep all budgets.

    Args:
        backbone: Unpruned.
        settings: Of the sweep: its method and rounding decide how many channels a ratio keeps.
        budgets: Without any, nothing is limited.
        progress: Told of measurements.

    Raises:
        UsageError: Even the smallest cut costs more.
    """
    if not budgets:
        return Limit()
    costs = uniform_costs(
        backbone,
        size=settings.tile,
        method=settings.method,
        allocation=Allocation(round_to=settings.round_to),
        progress=progress,
    )
    most = min(costs.largest(budget) for budget in budgets)
    if settings.method == "original":
        original_counts(backbone.module, most)  # a ratio that leaves a layer empty is refused
    return Limit() if most == 1 else Limit(most, costs.counted("params", most))
