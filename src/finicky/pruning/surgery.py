"""Physically remove channels from a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import nn

from finicky.backbones import convolutions, freeze
from finicky.errors import FinickyError, UsageError
from finicky.pruning.groups import trace


def cut(module: nn.Module, keep: Mapping[str, Sequence[int]], size: int) -> nn.Module:
    """A smaller copy of ``module`` that holds only the kept channels.

    Everything coupled to a cut channel (batch normalisation with its statistics, depthwise
    filters, the inputs of what follows) is cut with it, through torch-pruning's groups. The
    weights that stay are the same numbers. ``module`` itself is not changed.

    Args:
        module: The unpruned network.
        keep: For each group's root convolution, the output channels that stay, ascending.
        size: Side of the trial input in px.

    Raises:
        UsageError: A name is no convolution, or a channel number does not exist.
        FinickyError: The result does not add up; nothing is returned then.
    """
    smaller = deepcopy(module)
    graph = trace(smaller, size)
    layers = convolutions(smaller, size)
    for name, channels in keep.items():
        if name not in layers:
            raise UsageError(f"the plan cuts {name}, which this network does not have")
        _cut_one(graph, layers[name], name, channels)
    freeze(smaller)
    _check(smaller, keep, size)
    return smaller


def _cut_one(graph, layer: nn.Conv2d, name: str, channels: Sequence[int]) -> None:  # type: ignore[no-untyped-def]
    stay = set(channels)
    if not stay or min(stay) < 0 or max(stay) >= layer.out_channels or len(stay) < len(channels):
        raise UsageError(
            f"{name} has channels 0 to {layer.out_channels - 1}; the plan keeps {sorted(stay)[:8]}"
        )
    drop = [i for i in range(layer.out_channels) if i not in stay]
    if not drop:
        return
    prune = graph.get_pruner_of_module(layer).prune_out_channels
    # Not group.prune(idxs=…): it records a second time with all channels (torch-pruning 1.6.1).
    group = graph.get_pruning_group(layer, prune, drop)
    if not graph.check_pruning_group(group):
        raise FinickyError(f"cutting {name} to {len(stay)} channels would empty a coupled layer")
    group.prune()


def _check(module: nn.Module, keep: Mapping[str, Sequence[int]], size: int) -> None:
    """Channel counts add up, and one forward pass runs."""
    try:
        with torch.inference_mode():
            output = module(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        raise FinickyError(f"the cut network does not run: {error}") from error
    if not torch.isfinite(output).all():
        raise FinickyError("the cut network answers a black photo with NaN or infinity")
    layers = dict(module.named_modules())
    for name, channels in keep.items():
        conv = layers[name]
        assert isinstance(conv, nn.Conv2d)
        if conv.out_channels != len(channels) or conv.weight.shape[0] != len(channels):
            raise FinickyError(f"{name} has {conv.out_channels} channels, not {len(channels)}")
