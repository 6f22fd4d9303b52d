"""Features and head: where a traced classifier is cut in two."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from finicky.backbones import split_network
from finicky.errors import UnsupportedModelError

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _convs() -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        conv1=nn.Conv2d(3, 4, 3), relu1=nn.ReLU(), conv2=nn.Conv2d(4, 6, 3), relu2=nn.ReLU()
    )


def _plain() -> nn.Module:
    tail = OrderedDict(
        pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), drop=nn.Dropout(), fc=nn.Linear(6, 5)
    )
    return nn.Sequential(_convs() | tail)


def _convolution_makes_the_classes() -> nn.Module:
    """As SqueezeNet: the class maps are maps too, and yet no features."""
    tail = OrderedDict(
        drop=nn.Dropout(),
        classes=nn.Conv2d(6, 5, 1),
        relu3=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
    )
    return nn.Sequential(_convs() | tail)


class _Residual(nn.Module):
    """The last additions: neither side alone is what everything flows through."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.squeeze = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.block(x)
        y = y * torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(y, 1)))
        x = x + y
        return self.fc(F.dropout(x, training=self.training).mean((2, 3)))


@pytest.mark.parametrize(
    ("make", "map_shape"),
    [
        (_plain, (2, 6, 28, 28)),
        (_convolution_makes_the_classes, (2, 6, 28, 28)),
        (_Residual, (2, 4, 30, 30)),
    ],
)
def test_both_parts_together_are_the_network(
    make: Callable[[], nn.Module], map_shape: tuple[int, ...]
) -> None:
    network = make().eval()
    features, head = split_network(fx.symbolic_trace(network), X)
    assert head is not None
    with torch.inference_mode():
        maps = features(X)
        assert maps.shape == map_shape
        assert torch.equal(head(maps), network(X))
        assert head(maps).shape == (2, 5)


def test_every_learned_layer_is_in_one_part_only() -> None:
    network = _convolution_makes_the_classes().eval()
    features, head = split_network(fx.symbolic_trace(network), X)
    assert [n for n, _ in features.named_parameters() if "weight" in n] == [
        "conv1.weight",
        "conv2.weight",
    ]
    assert head is not None
    assert [n for n, _ in head.named_parameters()] == ["classes.weight", "classes.bias"]


def test_fixed_pooling_belongs_to_the_head() -> None:
    """As VGG's 7 by 7: the features keep the size that their input gives them."""
    tail = OrderedDict(pool=nn.AdaptiveAvgPool2d(7), flat=nn.Flatten(), fc=nn.Linear(6 * 49, 5))
    features, head = split_network(fx.symbolic_trace(nn.Sequential(_convs() | tail).eval()), X)
    assert head is not None
    small = features(torch.zeros(1, 3, 8, 8))
    assert small.shape == (1, 6, 4, 4)
    assert head(small).shape == (1, 5)


def test_network_that_ends_in_a_map_has_no_head() -> None:
    network = nn.Sequential(_convs()).eval()
    features, head = split_network(fx.symbolic_trace(network), X)
    assert head is None
    assert torch.equal(features(X), network(X))


class _TwoAnswers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (_TwoAnswers(), "has several outputs; only one"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "no convolution or linear layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)), r"no feature map \(N, C, h, w\)"),
    ],
)
def test_what_cannot_be_split_is_refused(network: nn.Module, text: str) -> None:
    with pytest.raises(UnsupportedModelError, match=text):
        split_network(fx.symbolic_trace(network.eval()), X)


def test_channels_behind_a_pooled_map_are_no_map() -> None:
    """As ConvNeXt normalises its vector: ``(N, 1, 1, C)`` between two turns of the axes."""

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.LayerNorm(6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.adaptive_avg_pool2d(self.conv(x), 1).permute(0, 2, 3, 1)
            return self.fc(self.norm(x).permute(0, 3, 1, 2).flatten(1))

    features, head = split_network(fx.symbolic_trace(Normalised().eval()), X)
    assert features(X).shape == (2, 6, 30, 30)
    assert head is not None
