"""Parameters and multiply-accumulates of a network, counted from its layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Counts:
    """``params``: numbers that training would change. ``macs``: multiply-accumulates a photo.

    ``channels``: output channels over all convolutions.
    """

    params: int
    macs: int
    channels: int


def count(module: nn.Module, size: int) -> Counts:
    """Count a network on one photo of ``size`` by ``size`` px.

    MACs are those of convolutions and linear layers; additions of biases, normalisation, poolings
    and activations are not counted, as is usual.
    """
    macs = 0

    def note(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2d):
            inputs = layer.in_channels // layer.groups
            macs += output.numel() * inputs * layer.kernel_size[0] * layer.kernel_size[1]
        elif isinstance(layer, nn.Linear):
            macs += output.numel() * layer.in_features

    layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.inference_mode():
            module(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return Counts(
        params=sum(p.numel() for p in module.parameters()),
        macs=macs,
        channels=sum(m.out_channels for m in layers if isinstance(m, nn.Conv2d)),
    )
