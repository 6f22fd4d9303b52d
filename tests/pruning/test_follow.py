"""Labels of channels, followed through what torch-pruning loses count in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from finicky.backbones.picks import ChannelPick, picks_as_layers
from finicky.backbones.tracing import trace_network
from finicky.pruning import ChannelGroup, cut, find_groups, plan_from_scores
from finicky.pruning.follow import Follower
from finicky.pruning.followed import followed_groups
from support import enliven, random_scores

SIZE = 32


class Net(nn.Module):
    """Two convolutions, and between them what is tried."""

    def __init__(self, between: Callable[[Tensor], Tensor], inputs: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.bn1 = nn.BatchNorm2d(8)
        self.between = between
        self.conv2 = nn.Conv2d(inputs, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.between(self.bn1(self.conv1(x)).relu()))


def _network(between: Callable[[Tensor], Tensor], inputs: int = 8) -> nn.Module:
    network = Net(between, inputs)
    enliven(network, SIZE)
    return network.eval()


def _groups(network: nn.Module) -> list[ChannelGroup]:
    order = {"conv1": 0, "conv2": 1}
    return followed_groups(network, SIZE, order, set())


def _inputs(network: nn.Module) -> list[int]:
    """Which channel of the first convolution each input of the second one is; -1: none."""
    follower = Follower(network)
    follower.run(network, SIZE)
    made = follower.labels.names(follower.taken["conv1", "out"]).tolist()
    used = follower.labels.names(follower.taken["conv2", "in"]).tolist()
    return [made.index(label) if label in made else -1 for label in used]


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (lambda x: x, [0, 1, 2, 3, 4, 5, 6, 7]),
        (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), [4, 5, 6, 7, 0, 1, 2, 3]),
        (lambda x: x[:, ::2], [0, 2, 4, 6]),
        (
            lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).reshape(x.shape),
            [0, 4, 1, 5, 2, 6, 3, 7],
        ),
        (lambda x: nn.functional.pad(x[:, :2], (0, 0, 0, 0, 1, 1)), [-1, 0, 1, -1]),
        (lambda x: x.permute(0, 2, 3, 1).flip(3).permute(0, 3, 1, 2), [7, 6, 5, 4, 3, 2, 1, 0]),
        (lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_labels_go_where_the_numbers_go(
    between: Callable[[Tensor], Tensor], expected: list[int]
) -> None:
    assert _inputs(_network(between, len(expected))) == expected


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda x: x * x.softmax(1), "tied"),
        (lambda x: x - x.mean(1, keepdim=True), "tied"),
        (lambda x: x + torch.arange(8.0).view(1, 8, 1, 1), "combines them with fixed numbers"),
        (lambda x: x.sort(1)[0], "mixes them"),
    ],
)
def test_channels_that_are_mixed_stay(between: Callable[[Tensor], Tensor], reason: str) -> None:
    first = _groups(_network(between))[0]
    assert first.root == "conv1"
    assert first.whole
    assert reason in first.whole or reason == "tied"


def test_sum_of_halves_ties_them() -> None:
    network = fx.symbolic_trace(_network(lambda x: x[:, :4] + x[:, 4:], 4))
    picks_as_layers(network, torch.zeros(1, 3, SIZE, SIZE))
    group = _groups(network)[0]
    assert group.size == 4
    assert group.producers[0].slots.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_code_that_counts_channels_keeps_them() -> None:
    first = _groups(_network(lambda x: x[:, :4] + x[:, 4:], 4))[0]
    assert "counts on all of them" in first.whole


def test_each_user_of_a_part_keeps_something() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3)
            self.conv2 = nn.Conv2d(4, 6, 3)
            self.conv3 = nn.Conv2d(4, 6, 3)

        def forward(self, x: Tensor) -> Tensor:
            one, two = self.conv1(x).chunk(2, 1)
            return torch.cat([self.conv2(one), self.conv3(two)], 1)

    groups = followed_groups(Halves(), SIZE, {"conv1": 0, "conv2": 1, "conv3": 2}, set())
    parts = [g.producers[0].channels.tolist() for g in groups if g.root == "conv1"]
    assert sorted(parts) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("norm", "kept"),
    [
        (nn.GroupNorm(1, 8), [0, 3, 5]),  # over all channels
        (nn.GroupNorm(4, 8), [2, 3, 6, 7]),  # whole groups
        (nn.InstanceNorm2d(8, affine=True), [1, 6]),
    ],
)
def test_normalisation_over_channels_is_cut_with_them(norm: nn.Module, kept: list[int]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 4, 3))
    enliven(network, SIZE)
    smaller = cut(network, {"0": kept}, SIZE)  # checks itself against the dark network
    assert smaller[1].weight.tolist() == norm.weight[kept].tolist()  # type: ignore[index, union-attr]


def test_attention_is_cut_around() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 8, stride=8)
            self.qkv = nn.Linear(8, 24)
            self.proj = nn.Linear(8, 8)
            self.last = nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            batch, channels, height, width = x.shape
            x = x.flatten(2).transpose(1, 2)
            rows = x.shape[1]
            q, k, v = self.qkv(x).reshape(batch, rows, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
            y = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2)
            x = x + self.proj(y.reshape(batch, rows, channels))
            return self.last(x.transpose(1, 2).reshape(batch, channels, height, width))

    network = Attention().eval().requires_grad_(False)
    traced = trace_network(network, torch.zeros(1, 3, SIZE, SIZE))
    smaller = cut(traced, {"stem": [1, 2, 6]}, SIZE)
    assert smaller.qkv.weight.shape == (24, 3)  # type: ignore[union-attr]
    assert smaller.proj.weight.shape == (3, 8)  # type: ignore[union-attr]


@pytest.mark.parametrize("inputs", [8, 16])
def test_slices_and_shuffles_become_layers_that_compute_the_same(inputs: int) -> None:
    def between(x: Tensor) -> Tensor:
        a, b = x.split([2, 6], 1)
        shuffled = torch.nn.functional.channel_shuffle(x, 2)
        return torch.cat([b, a], 1) if inputs == 8 else torch.cat([shuffled, b, a], 1)

    network = _network(between, inputs)
    traced = fx.symbolic_trace(network)
    photos = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    picks_as_layers(traced, photos)
    layers = [m for m in traced.modules() if isinstance(m, ChannelPick)]
    assert [m.order.tolist() for m in layers][:2] == [[0, 1], [2, 3, 4, 5, 6, 7]]
    torch.testing.assert_close(traced(photos), network(photos), rtol=0, atol=0)
    groups = find_groups(traced, SIZE)
    scores = random_scores(traced, SIZE)
    plan = plan_from_scores(groups, scores, 0.5, backbone="x", criterion="random")
    smaller = cut(traced, plan.decisions, SIZE)  # checks itself against the dark network
    assert len(plan.kept["conv1"]) == smaller.conv1.out_channels == 4  # type: ignore[union-attr]


def test_groups_are_those_of_torch_pruning_where_it_can_follow() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
            self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
            self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.gate = nn.Conv2d(8, 8, 1)
            self.conv3 = nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv1(x)
            x = x + self.depthwise(self.conv2(x))
            return self.conv3(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())

    network = Block().eval()
    known = find_groups(network, SIZE)
    order = {p.name: p.position for g in known for p in g.producers}
    pooled = {network.gate}
    mine = followed_groups(network, SIZE, order, pooled)
    assert not any(g.followed for g in known)
    assert all(g.followed for g in mine)
    for one, other in zip(mine, known, strict=True):
        assert [p.name for p in one.producers] == [p.name for p in other.producers]
        np.testing.assert_array_equal(one.units, other.units)
        np.testing.assert_allclose(one.magnitudes, other.magnitudes)
        assert {(m.layer, m.side) for m in one.members} == {
            (m.layer, m.side) for m in other.members
        }
