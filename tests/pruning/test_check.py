"""The checks of a cut notice what they are there for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn

from finicky.errors import FinickyError, UnsupportedModelError
from finicky.pruning import Counts, count, cut, find_groups
from finicky.pruning.check import (
    check_counts,
    check_equivalent,
    expected_counts,
    removed_channels,
)
from support import enliven

SIZE = 32
KEEP = {"conv1": [1, 3, 4], "conv2": [0, 5]}


def _network() -> nn.Module:
    torch.manual_seed(0)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, 6, 3, bias=False),
        bn1=nn.BatchNorm2d(6),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(6, 8, 3, groups=1),
        relu2=nn.ReLU(),
    )
    network = nn.Sequential(layers)
    enliven(network, SIZE)
    return network


def _swap_statistics(small: nn.Module) -> None:
    small.bn1.running_mean.copy_(small.bn1.running_mean.flip(0))  # type: ignore[union-attr, operator]


def _swap_inputs(small: nn.Module) -> None:
    small.conv2.weight.copy_(small.conv2.weight.flip(1))  # type: ignore[union-attr, operator]


def _swap_filters(small: nn.Module) -> None:
    small.conv1.weight.copy_(small.conv1.weight.flip(0))  # type: ignore[union-attr, operator]


def _raise_one_weight(small: nn.Module) -> None:
    small.conv1.weight[0, 0, 0, 0] += 0.1  # type: ignore[union-attr, operator, index]


@pytest.mark.parametrize(
    "spoil", [_swap_statistics, _swap_inputs, _swap_filters, _raise_one_weight]
)
def test_network_that_computes_something_else_is_refused(
    spoil: Callable[[nn.Module], None],
) -> None:
    network = _network()
    removed = removed_channels(find_groups(network, SIZE), KEEP)
    smaller = cut(network, KEEP, SIZE)
    check_equivalent([network], [smaller], removed, SIZE)
    with torch.no_grad():
        spoil(smaller)
    with pytest.raises(UnsupportedModelError, match="does not compute what the whole one does"):
        check_equivalent([network], [smaller], removed, SIZE)


def test_counts_from_the_plan_equal_the_count_by_hand() -> None:
    network = _network()
    removed = removed_channels(find_groups(network, SIZE), KEEP)
    found = expected_counts(network, removed, SIZE)
    # conv1 3 of 3·9, bn1 two numbers each, conv2 2 of 3·9 and two biases; maps of 30² and 28² px
    assert found.params == 3 * 27 + 2 * 3 + 2 * 27 + 2
    assert found.macs == 3 * 27 * 30**2 + 2 * 27 * 28**2
    assert found == count(cut(network, KEEP, SIZE), SIZE)


def test_counts_that_differ_are_refused() -> None:
    with pytest.raises(FinickyError, match=r"has 9 parameters, 7 MACs and 3 channels; by the plan"):
        check_counts(Counts(9, 7, 3), Counts(9, 8, 3))


class _Sigmoid(nn.Module):
    """Zero does not stay zero between the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.conv2 = nn.Conv2d(6, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(torch.sigmoid(self.conv1(x)))


def test_something_for_nothing_is_not_listened_to() -> None:
    network = _Sigmoid().eval().requires_grad_(False)
    keep = {"conv1": [0, 3]}
    smaller = cut(network, keep, SIZE)
    deaf = _Sigmoid().eval().requires_grad_(False)
    deaf.load_state_dict(network.state_dict())
    deaf.conv2.weight[:, [1, 2, 4, 5]] = 0
    photos = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(smaller(photos), deaf(photos))
    removed = removed_channels(find_groups(network, SIZE), keep)
    check_equivalent([network], [smaller], removed, SIZE)
    smaller.conv2.weight.copy_(smaller.conv2.weight.flip(1))  # type: ignore[union-attr, operator]
    with pytest.raises(UnsupportedModelError, match="does not compute what the whole one does"):
        check_equivalent([network], [smaller], removed, SIZE)


def test_gradients_and_modes_of_the_given_network_stay() -> None:
    network = _network().train()
    network.bn1.eval()  # type: ignore[union-attr]
    network.conv1.requires_grad_(False)  # type: ignore[union-attr]
    modes = [m.training for m in network.modules()]
    flags = [p.requires_grad for p in network.parameters()]
    state = {k: v.clone() for k, v in network.state_dict().items()}
    smaller = cut(network, KEEP, SIZE)
    assert torch.equal(smaller.bn1.running_mean, state["bn1.running_mean"][KEEP["conv1"]])  # type: ignore[union-attr, arg-type]
    assert [m.training for m in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == flags
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in state.items())
