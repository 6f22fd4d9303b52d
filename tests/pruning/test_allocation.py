"""Channels shared out among groups: by hand on small groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from finicky.errors import UsageError
from finicky.importance import ScoringBatch, measure_losses
from finicky.pruning import Allocation, ChannelGroup, find_groups, plan_from_scores

SIZE = 8


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in ((3, 8), (8, 16), (16, 8)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _counts(groups: list[ChannelGroup], ratio: float, scores: Any = None, **rule: Any) -> list[int]:
    names = [g.root for g in groups]
    scores = scores or {n: np.arange(g.size) for n, g in zip(names, groups, strict=True)}
    plan = plan_from_scores(
        groups, scores, ratio, backbone="small", criterion="hand", allocation=Allocation(**rule)
    )
    return [len(plan.kept[n]) for n in names]


def test_uniform_takes_the_same_share_everywhere() -> None:
    assert _counts(find_groups(_network(), SIZE), 0.25) == [2, 4, 2]


def test_every_layer_keeps_the_least_channels() -> None:
    groups = find_groups(_network(), SIZE)
    assert _counts(groups, 0.01, min_channels=4) == [4, 4, 4]
    assert _counts(groups, 0.01, min_channels=12) == [8, 12, 8]  # a layer of 8 has no more


def test_global_keeps_the_best_scores_wherever_they_are() -> None:
    groups = find_groups(_network(), SIZE)
    scores = {"0": np.full(8, 0.1), "2": np.full(16, 0.5), "4": np.full(8, 0.2)}
    scores["0"][3] = 0.9
    # 8 of 32: the best of the first layer, then the second; each keeps at least one
    assert _counts(groups, 0.25, scores, kind="global") == [1, 6, 1]
    assert _counts(groups, 0.25, scores, kind="global", min_channels=2) == [2, 4, 2]
    assert _counts(groups, 1.0, scores, kind="global") == [8, 16, 8]


def test_global_keeps_as_many_channels_as_the_ratio_asks() -> None:
    groups = find_groups(_network(), SIZE)
    random = np.random.default_rng(0)
    scores = {g.root: random.random(g.size) for g in groups}
    for ratio in (0.25, 0.5, 0.75):
        assert sum(_counts(groups, ratio, scores, kind="global")) == ratio * 32


def test_sensitivity_gives_more_to_the_layer_whose_loss_falls_most() -> None:
    groups = find_groups(_network(), SIZE)
    losses = {"0": (0.9, 0.8, 0.5, 0.0), "2": (0.02, 0.01, 0.0, 0.0), "4": (0.02, 0.01, 0.0, 0.0)}
    found = _counts(groups, 0.5, kind="sensitivity", losses=losses)
    assert found[0] == 8
    assert sum(found) == pytest.approx(16, abs=1)
    assert _counts(groups, 1.0, kind="sensitivity", losses=losses) == [8, 16, 8]


def test_a_layer_without_use_costs_nothing_and_one_that_all_depends_on_costs_much() -> None:
    module = _network()
    module[4].weight[:, 8:] = 0  # half of the second layer is never read
    groups = find_groups(module, SIZE)
    inputs = torch.rand(6, 3, SIZE, SIZE)
    scores = {g.root: np.arange(g.size)[::-1] for g in groups}
    losses = measure_losses(
        module, groups, scores, [ScoringBatch(inputs, torch.zeros(6, SIZE, SIZE))]
    )
    assert losses["2"][2] == pytest.approx(0, abs=1e-9)  # the better half stays
    assert losses["4"][0] > 0.1
    assert all(found[-1] == 0 for found in losses.values())


def test_bad_rules_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no allocation named 'gobal'.*Did you mean global"):
        Allocation("gobal")
    with pytest.raises(UsageError, match="min channels must be at least 1, got 0"):
        Allocation(min_channels=0)
    with pytest.raises(UsageError, match="round_to must be at least 1, got 0"):
        Allocation(round_to=0)
    with pytest.raises(UsageError, match="lacks the loss of 0"):
        _counts(find_groups(_network(), SIZE), 0.5, kind="sensitivity")
