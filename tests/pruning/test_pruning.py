"""Groups, plans and cuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from finicky.backbones import ARCHITECTURES, Backbone, convolutions, load_backbone
from finicky.errors import ShapeError, UsageError
from finicky.pruning import (
    check_keep_ratio,
    count,
    cut,
    find_groups,
    group_scores,
    keep_count,
    plan_from_scores,
)

SIZE = 64
NAMES = sorted(ARCHITECTURES)


def _backbone(name: str) -> Backbone:
    return load_backbone(name, weights="random")


def _scores(module: nn.Module, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {n: random.random(c.out_channels) for n, c in convolutions(module, SIZE).items()}


def test_chain_has_a_group_a_convolution_in_forward_order() -> None:
    module = _backbone("vgg16").module
    groups = find_groups(module, SIZE)
    assert [g.root for g in groups] == list(convolutions(module, SIZE))
    assert [g.size for g in groups] == [c.out_channels for c in convolutions(module, SIZE).values()]


def test_groups_of_a_frozen_network_are_found() -> None:
    """torch-pruning traces by autograd: frozen networks look empty to it, without a word."""
    module = _backbone("alexnet").module
    assert not any(p.requires_grad for p in module.parameters())
    assert len(find_groups(module, SIZE)) == 5
    assert not any(p.requires_grad for p in module.parameters())


def test_shortcut_ties_its_projections_into_one_group() -> None:
    module = _backbone("efficientnet-lite0").module
    by_root = {g.root: [p.name for p in g.producers] for g in find_groups(module, SIZE)}
    tied = next(v for v in by_root.values() if "block4.layers.project" in v)
    assert tied == ["block3.layers.project", "block4.layers.project"]
    hidden = next(v for v in by_root.values() if "block3.layers.expand" in v)
    assert hidden == ["block3.layers.expand", "block3.layers.depthwise"]


def test_group_score_is_the_mean_of_its_producers() -> None:
    module = _backbone("efficientnet-lite0").module
    group = next(g for g in find_groups(module, SIZE) if len(g.producers) == 2)
    first, second = (p.name for p in group.producers)
    low, high = np.zeros(group.size), np.full(group.size, 2.0)
    low[0] = np.nan  # no evidence is left out of the mean
    found = group_scores(group, {first: low, second: high})
    assert found.tolist() == [2.0] + [1.0] * (group.size - 1)
    assert np.isnan(group_scores(group, {})).all()


def test_scores_of_the_wrong_length_are_refused() -> None:
    group = find_groups(_backbone("alexnet").module, SIZE)[0]
    with pytest.raises(ShapeError, match="3 scores for conv1, expected 64"):
        group_scores(group, {"conv1": np.zeros(3)})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ratio", [0.01, 0.3, 1.0])
def test_cut_network_computes_what_a_masked_one_would(name: str, ratio: float) -> None:
    """Oracle: zeroing a channel wherever it is made equals removing it.

    Exact only if nothing downstream turns the zeros into something else, hence no biases and no
    shifts here; the weights that stay are compared one by one.
    """
    backbone = _backbone(name)
    groups = find_groups(backbone.module, SIZE)
    plan = plan_from_scores(
        groups, _scores(backbone.module), ratio, backbone=name, criterion="random"
    )
    smaller = cut(backbone.module, plan.decisions, SIZE)
    masked = _masked(backbone.module, plan.kept)
    torch.manual_seed(0)
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = masked(x)[:, _last(plan.kept)]
        torch.testing.assert_close(smaller(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_cut_leaves_the_input_network_untouched(name: str) -> None:
    backbone = _backbone(name)
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    groups = find_groups(backbone.module, SIZE)
    plan = plan_from_scores(groups, _scores(backbone.module), 0.2, backbone=name, criterion="r")
    cut(backbone.module, plan.decisions, SIZE)
    after = backbone.module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not backbone.module.training


def test_batch_normalisation_statistics_survive_the_cut() -> None:
    backbone = _backbone("alexnet-bn")
    norm = backbone.module.bn1
    norm.running_mean.copy_(torch.arange(96.0))  # type: ignore[union-attr, operator]
    smaller = cut(backbone.module, {"conv1": [3, 50, 95]}, SIZE)
    assert smaller.bn1.running_mean.tolist() == [3, 50, 95]  # type: ignore[union-attr, operator]


def test_parameters_and_macs_equal_the_count_by_hand() -> None:
    smaller = cut(_backbone("alexnet").module, {"conv1": list(range(10)), "conv5": [0]}, SIZE)
    found = count(smaller, SIZE)
    # conv1 11², conv2 5², then 3²; maps of 15², 7², 3², 3² and 3² px
    params = (
        (3 * 121 + 1) * 10 + (10 * 25 + 1) * 192 + (192 * 9 + 1) * 384 + (384 * 9 + 1) * 256
    ) + (256 * 9 + 1)
    macs = 3 * 121 * 10 * 15**2 + 10 * 25 * 192 * 7**2 + (192 * 384 + 384 * 256 + 256) * 9 * 3**2
    assert (found.params, found.macs) == (params, macs)
    assert found.channels == 10 + 192 + 384 + 256 + 1


def test_keep_ratio_one_changes_nothing() -> None:
    backbone = _backbone("alexnet")
    groups = find_groups(backbone.module, SIZE)
    plan = plan_from_scores(groups, _scores(backbone.module), 1, backbone="alexnet", criterion="r")
    x = torch.rand(1, 3, SIZE, SIZE)
    assert torch.equal(cut(backbone.module, plan.decisions, SIZE)(x), backbone.module(x))


def test_best_channels_stay_in_their_order_and_ties_go_to_the_lower_number() -> None:
    groups = find_groups(_backbone("alexnet").module, SIZE)
    scores = np.zeros(64)
    scores[[60, 5]] = [1, 2]
    plan = plan_from_scores(groups, {"conv1": scores}, 4 / 64, backbone="alexnet", criterion="hand")
    assert plan.kept["conv1"] == [0, 1, 5, 60]


def test_channels_without_evidence_go_first() -> None:
    groups = find_groups(_backbone("alexnet").module, SIZE)
    scores = np.full(64, np.nan)
    scores[[7, 9]] = 0
    plan = plan_from_scores(groups, {"conv1": scores}, 2 / 64, backbone="alexnet", criterion="hand")
    assert plan.kept["conv1"] == [7, 9]


@pytest.mark.parametrize(
    ("channels", "ratio", "expected"), [(64, 0.01, 1), (10, 0.25, 3), (7, 1, 7), (3, 0.01, 1)]
)
def test_keep_count_rounds_half_up_and_keeps_at_least_one(
    channels: int, ratio: float, expected: int
) -> None:
    assert keep_count(channels, ratio) == expected


@pytest.mark.parametrize(
    ("channels", "ratio", "expected"),
    [(64, 0.3, 16), (128, 0.3, 32), (256, 0.3, 80), (64, 0.1, 6), (20, 0.9, 16), (24, 1, 24)],
)
def test_counts_from_the_multiple_up_are_rounded_to_it(
    channels: int, ratio: float, expected: int
) -> None:
    assert keep_count(channels, ratio, 16) == expected


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (0, r"keep ratio must be in \(0, 1\], got 0$"),
        (20, r"got 20\. Did you mean 0\.2\?"),
        (1.5, r"got 1\.5$"),
        (float("nan"), "must be a number in"),
        (-1, "got -1$"),
    ],
)
def test_keep_ratio_out_of_range_says_what_was_meant(bad: float, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        check_keep_ratio(bad)


@pytest.mark.parametrize("channels", [[], [64], [-1], [3, 3]])
def test_plan_with_impossible_channels_is_refused(channels: list[int]) -> None:
    with pytest.raises(UsageError, match="conv1 has channels 0 to 63"):
        cut(_backbone("alexnet").module, {"conv1": channels}, SIZE)


def test_plan_of_another_network_is_refused() -> None:
    with pytest.raises(UsageError, match="cuts block1_conv1, which this network does not have"):
        cut(_backbone("alexnet").module, {"block1_conv1": [0]}, SIZE)


def _masked(module: nn.Module, kept: dict[str, list[int]]) -> nn.Module:
    """A copy in which every cut channel is zero from where it is made to where it is used."""
    from copy import deepcopy

    from finicky.importance import find_taps

    copy = deepcopy(module)
    for name, tap in find_taps(copy, SIZE).items():
        conv = dict(copy.named_modules())[name]
        keep = torch.zeros(conv.out_channels)  # type: ignore[arg-type]
        keep[kept[name]] = 1
        layers = [conv, tap.module]
        for other_name, other in copy.named_modules():
            if isinstance(other, nn.BatchNorm2d) and _follows(copy, name, other_name):
                layers.append(other)
        for layer in set(layers):
            layer.register_forward_hook(lambda _, __, y, k=keep: y * k.view(1, -1, 1, 1))
    return copy


def _follows(module: nn.Module, conv: str, norm: str) -> bool:
    names = [n for n, m in module.named_modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    return names.index(norm) == names.index(conv) + 1


def _last(kept: dict[str, list[int]]) -> list[int]:
    return list(kept.values())[-1]
