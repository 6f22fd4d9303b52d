"""Budgets instead of keep ratios: read, met, and refused before any work."""

from __future__ import annotations

import pytest

from finicky.backbones import load_backbone
from finicky.errors import UsageError
from finicky.export.costs import NetworkCosts, fit_budgets
from finicky.pruning import Allocation, count, cut, find_groups, plan_from_scores
from finicky.pruning.budget import Budget, largest_ratio, parse_budget, parse_budgets

SIZE = 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("params=7%", Budget("params", 0.07, relative=True)),
        ("params=500k", Budget("params", 5e5)),
        ("macs=1.5G", Budget("macs", 1.5e9)),
        ("latency=12ms", Budget("latency", 12.0)),
        ("size = 1 MB", Budget("size", 1e6)),
        ("size=250kb", Budget("size", 2.5e5)),
    ],
)
def test_budgets_are_read(text: str, expected: Budget) -> None:
    assert parse_budget(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7%", r"a budget is given as params=7%.*got '7%'"),
        ("parms=7%", r"got 'parms=7%'.*Did you mean params"),
        ("size=1", r"a number with one of '%', 'b', 'kb', 'mb', 'gb', got '1'"),
        ("latency=12MB", "got '12MB'"),
        ("params=0", "must be above 0, got 0"),
        ("macs=120%", "at most 100 %, got 120%"),
        ("macs=1e9", "got '1e9'"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_budget(text)


def test_several_budgets_may_share_a_text() -> None:
    assert parse_budgets("params=7%,macs=10%") == parse_budgets(["params=7%", "macs=10%"])
    assert parse_budgets(()) == ()


def test_the_largest_ratio_is_found_to_a_step() -> None:
    budget = Budget("params", 300.0)
    assert largest_ratio(lambda ratio: 1000 * ratio, budget, "net") == 0.3
    assert largest_ratio(lambda ratio: 100 * ratio, budget, "net") == 1


def test_a_budget_that_no_cut_keeps_names_the_smallest() -> None:
    backbone = load_backbone("alexnet", weights="random")
    with pytest.raises(UsageError, match=r"smallest cut of alexnet has params 4\d\d.*allow more"):
        fit_budgets(backbone, [Budget("params", 100)], size=SIZE)


@pytest.mark.parametrize("text", ["params=7%", "macs=10%", "params=50k"])
def test_counted_budgets_are_met_and_the_next_step_would_not(text: str) -> None:
    backbone = load_backbone("alexnet", weights="random")
    budget = parse_budget(text)
    ratio = fit_budgets(backbone, [budget], size=SIZE, allocation=Allocation(round_to=8))
    limit = budget.absolute(getattr(count(backbone.module, SIZE), budget.quantity))
    groups = find_groups(backbone.module, SIZE)
    found = []
    for one in (ratio, round(ratio + 0.001, 6)):
        plan = plan_from_scores(groups, {}, one, backbone="a", criterion="none", round_to=8)
        smaller = cut(backbone.module, plan.decisions, SIZE, verify=False)
        found.append(getattr(count(smaller, SIZE), budget.quantity))
    assert found[0] <= limit < found[1]


def test_a_measured_budget_returns_a_cut_that_was_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock is replaced: 1 ms and 1 ms for every 10 million multiply-accumulates."""
    asked: list[float] = []

    def measured(self: NetworkCosts, quantity: str, ratio: float) -> float:
        assert quantity == "latency"
        asked.append(ratio)
        return 1 + self.counted("macs", ratio) / 1e7

    monkeypatch.setattr(NetworkCosts, "measured", measured)
    backbone = load_backbone("alexnet", weights="random")
    ratio = fit_budgets(backbone, [parse_budget("latency=1.5ms")], size=SIZE)
    groups = find_groups(backbone.module, SIZE)
    costs = NetworkCosts(
        backbone,
        SIZE,
        lambda r: plan_from_scores(groups, {}, r, backbone="a", criterion="none"),
        groups,
    )
    assert ratio in asked
    assert 1.45 <= 1 + costs.counted("macs", ratio) / 1e7 <= 1.5
    assert len(asked) <= 8
    with pytest.raises(UsageError, match=r"latency 1\.01 ms; allow more"):
        fit_budgets(backbone, [parse_budget("latency=0.9ms")], size=SIZE)


def test_a_size_budget_is_that_of_the_file() -> None:
    backbone = load_backbone("alexnet", weights="random")
    groups = find_groups(backbone.module, SIZE)
    costs = NetworkCosts(
        backbone,
        SIZE,
        lambda r: plan_from_scores(groups, {}, r, backbone="a", criterion="none"),
        groups,
    )
    ratio = costs.largest(parse_budget("size=100kB"))
    assert 70_000 < costs.measured("size", ratio) <= 100_000
