"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) for small devices.

Lite means: no squeeze-and-excitation, ReLU6 for swish, stem and head of fixed width
(Google's release notes of March 2020).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from finicky.backbones.alexnet import SameConv2d

# kernel, stride, expansion, output channels, repeats (table 1 of the paper)
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class InvertedBottleneck(nn.Module):
    """Expand, filter depthwise, project; a shortcut where shapes allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            layers["expand"] = nn.Conv2d(inputs, hidden, 1, bias=False)
            layers["expand_bn"] = _norm(hidden)
            layers["expand_relu"] = nn.ReLU6()
        layers["depthwise"] = SameConv2d(
            hidden, hidden, kernel, stride=stride, groups=hidden, bias=False
        )
        layers["depthwise_bn"] = _norm(hidden)
        layers["depthwise_relu"] = nn.ReLU6()
        layers["project"] = nn.Conv2d(hidden, outputs, 1, bias=False)
        layers["project_bn"] = _norm(outputs)
        self.layers = nn.Sequential(layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.shortcut else y


def efficientnet_lite0() -> nn.Module:
    """49 convolutions, 3,371,008 parameters, without the 1000-class layer."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = SameConv2d(3, 32, 3, stride=2, bias=False)
    layers["stem_bn"] = _norm(32)
    layers["stem_relu"] = nn.ReLU6()
    channels, number = 32, 0
    for kernel, stride, expansion, outputs, repeats in _STAGES:
        for repeat in range(repeats):
            layers[f"block{number}"] = InvertedBottleneck(
                channels, outputs, kernel, stride if repeat == 0 else 1, expansion
            )
            channels, number = outputs, number + 1
    layers["head"] = nn.Conv2d(channels, 1280, 1, bias=False)
    layers["head_bn"] = _norm(1280)
    layers["head_relu"] = nn.ReLU6()
    return nn.Sequential(layers)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
