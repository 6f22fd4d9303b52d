"""A sweep within budgets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import finicky.sweep.run
from finicky.backbones import Backbone, load_backbone
from finicky.data.surfaces import write_surfaces
from finicky.errors import UsageError
from finicky.project import Project
from finicky.pruning.budget import parse_budgets
from finicky.selection import Constraints
from finicky.sweep import (
    DecisionSettings,
    SearchSettings,
    SweepSettings,
    run_sweep,
    select_again,
)
from finicky.sweep.limits import Limit, limit_of

SETTINGS = SweepSettings(
    backbone="alexnet",
    train=("frozen",),
    weights="random",
    repair="none",
    tile=64,
    keep_ratios=(0.5, 0.1, 0.05),
    head_seeds=1,
    latency_seconds=0,
    maps=False,
)
FULL_PARAMS = 2_469_696


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("alexnet", weights="random")


def test_ratios_above_the_budget_go_and_the_largest_that_keeps_it_is_added(
    backbone: Backbone,
) -> None:
    limit = limit_of(backbone, SETTINGS, parse_budgets("params=7%"))
    assert 0.1 < limit.keep_ratio < 0.5
    assert 0.06 * FULL_PARAMS < limit.max_params <= 0.07 * FULL_PARAMS
    assert limit.settings(SETTINGS).keep_ratios == (0.05, 0.1, limit.keep_ratio)
    search = limit.search(SearchSettings())
    assert search is not None
    assert search.grid[0] == 0.01 and search.grid[-1] == limit.keep_ratio
    assert limit.decision(DecisionSettings()).constraints.max_params == limit.max_params
    assert Limit.from_json(limit.to_json()) == limit


def test_the_original_method_is_limited_by_its_own_number_of_channels(backbone: Backbone) -> None:
    """Its counts are not rounded to multiples of 16, and one less than a share of the channels."""
    settings = replace(SETTINGS, method="original")
    limit = limit_of(backbone, settings, parse_budgets("params=7%"))
    widths = [64, 192, 384, 256, 256]

    def params(ratio: float) -> int:
        counts = [round((width - 1) * ratio) for width in widths]
        kernels = [11, 5, 3, 3, 3]
        return sum(
            n * (before * k * k + 1)
            for n, before, k in zip(counts, [3, *counts[:-1]], kernels, strict=True)
        )

    assert limit.max_params == params(limit.keep_ratio)
    assert params(limit.keep_ratio) <= 0.07 * FULL_PARAMS < params(limit.keep_ratio + 0.001)
    with pytest.raises(UsageError, match="leaves none of the 64 channels"):
        limit_of(backbone, settings, parse_budgets("params=430"))


def test_a_stricter_limit_of_the_choice_stays() -> None:
    before = DecisionSettings(constraints=Constraints(max_params=10.0))
    assert Limit(0.2, 1000.0).decision(before).constraints.max_params == 10


def test_no_budget_and_one_that_all_keep_change_nothing(backbone: Backbone) -> None:
    for text in ("", "params=100%"):
        limit = limit_of(backbone, SETTINGS, parse_budgets(text))
        assert limit.settings(SETTINGS) == SETTINGS
        assert limit.search(SearchSettings()) == SearchSettings()
        assert limit.decision(DecisionSettings()) == DecisionSettings()


def test_what_cannot_be_kept_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    write_surfaces(tmp_path / "p", 3, seed=3, width=192, height=128)
    with pytest.raises(UsageError, match="smallest cut of alexnet has macs"):
        run_sweep(
            Project.open(tmp_path / "p"),
            tmp_path / "p" / "runs" / "one",
            SETTINGS,
            budgets=parse_budgets("macs=10"),
        )
    assert not (tmp_path / "p" / "runs").exists()


def test_a_search_within_a_budget_and_choices_after_it_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    whole = finicky.sweep.run.load_backbone

    def noted(name: str, **more: object) -> Backbone:
        loaded.append(name)
        return whole(name, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(finicky.sweep.run, "load_backbone", noted)
    write_surfaces(tmp_path / "p", 10, seed=3, width=192, height=128)
    search = SearchSettings(halved=1, evaluated=1, rounds=0, most_glances=4)
    result = run_sweep(
        Project.open(tmp_path / "p"),
        tmp_path / "run",
        SETTINGS,
        search=search,
        budgets=parse_budgets("params=1%"),
    )
    assert loaded == ["alexnet"]
    most = 0.01 * FULL_PARAMS
    assert result.chosen["params"] <= most
    assert all(row["params"] <= most for row in result.rows[1:]) and len(result.rows) >= 2
    seen = json.loads((tmp_path / "run" / "search.json").read_text())["seen"]
    largest = max(one["keep_ratio"] for one in seen if one["keep_ratio"] < 1)
    assert (
        largest
        <= json.loads((tmp_path / "run" / "run.json").read_text())["asked"]["budget"]["keep_ratio"]
    )
    again = select_again(
        tmp_path / "run", DecisionSettings(constraints=Constraints(max_size_mb=100))
    )
    assert again.chosen["params"] <= most
