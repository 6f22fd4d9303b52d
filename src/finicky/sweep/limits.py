"""A sweep within budgets: which keep ratios are tried, and what may be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from finicky.backbones import load_backbone
from finicky.export.costs import uniform_costs
from finicky.progress import Progress, silent
from finicky.pruning import Allocation
from finicky.pruning.budget import Budget
from finicky.sweep.decide import DecisionSettings
from finicky.sweep.settings import SweepSettings


def keep_within(
    settings: SweepSettings,
    decision: DecisionSettings,
    budgets: Sequence[Budget],
    *,
    progress: Progress = silent,
) -> tuple[SweepSettings, DecisionSettings]:
    """The same sweep with the largest keep ratio that keeps the budgets, and those below it.

    The unpruned network is still measured, to compare with, but can only be chosen if it keeps the
    budgets too: the choice gets a limit on parameters.

    Args:
        settings: Of the sweep; its keep ratios are tried as far as they keep the budgets.
        decision: How to choose.
        budgets: Without any, nothing changes.
        progress: Told of measurements.

    Raises:
        UsageError: Even the smallest cut costs more.
    """
    if not budgets:
        return settings, decision
    backbone = load_backbone(
        settings.backbone,
        weights=settings.weights,
        arch=settings.arch,
        preprocessing=settings.preprocessing,
    )
    backbone.check_size(settings.tile)
    costs = uniform_costs(
        backbone,
        size=settings.tile,
        allocation=Allocation(round_to=settings.round_to),
        progress=progress,
    )
    most = min(costs.largest(budget) for budget in budgets)
    if most == 1:
        return settings, decision
    below = {ratio for ratio in settings.keep_ratios if ratio <= most}
    limit = min(costs.counted("params", most), decision.constraints.max_params or float("inf"))
    return (
        replace(settings, keep_ratios=tuple(sorted({*below, most}))),
        replace(decision, constraints=replace(decision.constraints, max_params=limit)),
    )
