"""A sweep within budgets."""

from __future__ import annotations

import pytest

from finicky.errors import UsageError
from finicky.pruning.budget import parse_budgets
from finicky.selection import Constraints
from finicky.sweep import DecisionSettings, SweepSettings
from finicky.sweep.limits import keep_within

SETTINGS = SweepSettings(
    backbone="alexnet", weights="random", tile=64, keep_ratios=(0.05, 0.1, 0.5)
)


def test_ratios_above_the_budget_go_and_the_largest_that_keeps_it_is_added() -> None:
    settings, decision = keep_within(SETTINGS, DecisionSettings(), parse_budgets("params=7%"))
    assert settings.keep_ratios[:2] == (0.05, 0.1)
    assert 0.1 < settings.keep_ratios[2] < 0.5
    limit = decision.constraints.max_params
    assert limit is not None
    assert 0.06 * 2_469_696 < limit <= 0.07 * 2_469_696


def test_a_stricter_limit_of_the_choice_stays() -> None:
    before = DecisionSettings(constraints=Constraints(max_params=10.0))
    _, decision = keep_within(SETTINGS, before, parse_budgets("params=7%"))
    assert decision.constraints.max_params == 10


def test_no_budget_and_one_that_all_keep_change_nothing() -> None:
    for text in ("", "params=100%"):
        assert keep_within(SETTINGS, DecisionSettings(), parse_budgets(text)) == (
            SETTINGS,
            DecisionSettings(),
        )


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(UsageError, match="smallest cut of alexnet has macs"):
        keep_within(SETTINGS, DecisionSettings(), parse_budgets("macs=10"))
