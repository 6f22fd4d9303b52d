"""Physically remove channels from a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from finicky.backbones import Backbone, Whole, convolutions, freeze
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
    _cut_all(smaller, smaller, keep, size)
    return freeze(smaller)


def cut_both(
    module: nn.Module, head: nn.Module, keep: Mapping[str, Sequence[int]], size: int
) -> tuple[nn.Module, nn.Module]:
    """As `cut`, and with it the inputs of the head that follows; the head's outputs stay.

    Args:
        module: The unpruned features.
        head: What turns their map into the classes.
        keep: As for `cut`: convolutions of the features.
        size: Side of the trial input in px, one that the head takes.

    Returns:
        Smaller copies of both.
    """
    smaller = Whole(deepcopy(module), deepcopy(head))
    classes = _answer(smaller, size).shape
    _cut_all(smaller, smaller.features, keep, size)
    if _answer(smaller, size).shape != classes:
        raise FinickyError(
            f"cutting changed the network's output from {tuple(classes)}: its classes are tied to "
            "channels that the plan cuts"
        )
    freeze(smaller)
    return smaller.features, smaller.head


def cut_backbone(backbone: Backbone, keep: Mapping[str, Sequence[int]], size: int) -> Backbone:
    """The same backbone, cut; its head, if it has one, is cut with it and gives the same classes.

    Args:
        backbone: Unpruned.
        keep: As for `cut`.
        size: Side of the trial input in px.
    """
    if backbone.head is None:
        return backbone.with_module(cut(backbone.module, keep, size))
    both = cut_both(backbone.module, backbone.head, keep, backbone.head_size or size)
    return backbone.with_module(*both)


def _cut_all(
    whole: nn.Module, features: nn.Module, keep: Mapping[str, Sequence[int]], size: int
) -> None:
    graph = trace(whole, size)
    layers = convolutions(features, size)
    for name, channels in keep.items():
        if name not in layers:
            raise UsageError(f"the plan cuts {name}, which this network does not have")
        _cut_one(graph, layers[name], name, channels)
    freeze(whole)
    _check(features, keep, size)


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


def _answer(module: nn.Module, size: int) -> Tensor:
    try:
        with torch.inference_mode():
            return module(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        raise FinickyError(f"the network does not run on {size} px: {error}") from error


def _check(module: nn.Module, keep: Mapping[str, Sequence[int]], size: int) -> None:
    """Channel counts add up, and one forward pass runs."""
    if not torch.isfinite(_answer(module, size)).all():
        raise FinickyError("the cut network answers a black photo with NaN or infinity")
    layers = dict(module.named_modules())
    for name, channels in keep.items():
        conv = layers[name]
        assert isinstance(conv, nn.Conv2d)
        if conv.out_channels != len(channels) or conv.weight.shape[0] != len(channels):
            raise FinickyError(f"{name} has {conv.out_channels} channels, not {len(channels)}")
