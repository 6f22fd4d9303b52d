"""torch-pruning's dependency graph of a network, and convolutions in groups within it.

A convolution in groups (neither plain nor depthwise) is cut in one of two ways. By *whole groups*,
with the channels that feed them, where there are more groups than channels in one and as many
inputs as outputs: ResNeXt, RegNet. Otherwise at the same *positions* in each group, so that all
groups stay equally large. torch-pruning 1.6 does neither by itself: it takes any channels, and
then keeps the weights of the wrong ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from torch_pruning.pruner.function import BasePruningFunc, ConvPruner, LayernormPruner

from finicky.backbones.picks import ChannelPick
from finicky.errors import UnsupportedModelError


def is_grouped(conv: nn.Conv2d) -> bool:
    """In groups, but not depthwise."""
    return conv.groups > 1 and not is_depthwise(conv)


def is_depthwise(conv: nn.Conv2d) -> bool:
    """One filter a channel."""
    return conv.groups > 1 and conv.groups == conv.in_channels == conv.out_channels


def goes_by_whole_groups(conv: nn.Conv2d) -> bool:
    """Whether a convolution in groups is cut by whole groups, or at positions in each."""
    return is_grouped(conv) and conv.groups >= conv.in_channels // conv.groups


def can_be_traced(module: nn.Module) -> bool:
    """Whether torch-pruning's graph is worth a try; some structures it miscounts, or never ends."""
    for layer in module.modules():
        if isinstance(layer, (ChannelPick, nn.Conv1d)):
            return False
        if (
            isinstance(layer, nn.Conv2d)
            and goes_by_whole_groups(layer)
            and layer.in_channels != layer.out_channels
        ):
            return False
    return True


@contextmanager
def traced(module: nn.Module, size: int) -> Iterator[tp.DependencyGraph]:
    """torch-pruning's graph of a module, usable while open.

    The graph is traced by autograd, so that a frozen network would look empty (torch-pruning
    prunes nothing then, without a word). Gradients are switched on for the trace; modes, flags
    and classes are restored.

    Raises:
        UnsupportedModelError: torch-pruning cannot follow the channels.
    """
    with _marked(module) as pruners:
        yield _build(module, size, pruners)


def _build(
    module: nn.Module, size: int, pruners: dict[type[nn.Module], BasePruningFunc]
) -> tp.DependencyGraph:
    modes = {layer: layer.training for layer in module.modules()}
    frozen = [p for p in module.parameters() if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Two photos: of one, pooling drops the batch axis, and channels are miscounted.
            return tp.DependencyGraph().build_dependency(
                module, torch.zeros(2, 3, size, size), customized_pruners=pruners, verbose=False
            )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnsupportedModelError(
            f"torch-pruning cannot follow this network's channels ({type(error).__name__}: {error})"
        ) from error
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for layer, training in modes.items():
            layer.training = training


class _WholeGroupPruner(ConvPruner):
    """Removes whole groups: outputs, and with them the inputs that they see."""

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        assert isinstance(layer, nn.Conv2d)
        width = layer.out_channels // layer.groups
        gone = {int(i) for i in idxs}
        groups = {i // width for i in gone}
        if len(gone) != len(groups) * width:
            raise UnsupportedModelError("a convolution in groups can only be cut by whole groups")
        stay = [i for i in range(layer.out_channels) if i not in gone]
        layer.weight = self._prune_parameter_and_grad(layer.weight, stay, 0)
        if layer.bias is not None:
            layer.bias = self._prune_parameter_and_grad(layer.bias, stay, 0)
        layer.in_channels = layer.out_channels = len(stay)
        layer.groups -= len(groups)
        return layer

    prune_in_channels = prune_out_channels  # which tells torch-pruning that they go together


class _LayerNormPruner(LayernormPruner):
    """torch-pruning 1.6.1 sorts what stays with ``Tensor.sort()``, which sorts a copy.

    Where few channels stay, those come in another order than in the layers around: the weights of
    the normalisation are shuffled, without a word.
    """

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        assert isinstance(layer, nn.LayerNorm)
        gone = {int(i) for i in idxs}
        stay = [i for i in range(layer.normalized_shape[-1]) if i not in gone]
        for name in ("weight", "bias"):
            if getattr(layer, name) is not None:
                smaller = self._prune_parameter_and_grad(getattr(layer, name), stay, -1)
                setattr(layer, name, smaller)
        layer.normalized_shape = (*layer.normalized_shape[:-1], len(stay))
        return layer

    prune_in_channels = prune_out_channels


@cache
def _whole_group_class(kind: Any) -> Any:
    """A class of its own for each kind of convolution: torch-pruning looks pruners up by class."""
    return type(f"WholeGroups{kind.__name__}", (kind,), {})


@contextmanager
def _marked(module: nn.Module) -> Iterator[dict[type[nn.Module], BasePruningFunc]]:
    """Pruners by class; while open, convolutions cut by whole groups have classes of their own."""
    marked = [m for m in module.modules() if isinstance(m, nn.Conv2d) and goes_by_whole_groups(m)]
    kinds: dict[nn.Module, Any] = {conv: type(conv) for conv in marked}
    pruner, normalisation = _WholeGroupPruner(), _LayerNormPruner()
    try:
        for conv, kind in kinds.items():
            conv.__class__ = _whole_group_class(kind)
        yield (
            {_whole_group_class(kind): pruner for kind in kinds.values()}
            | {type(m): normalisation for m in module.modules() if isinstance(m, nn.LayerNorm)}
        )
    finally:
        for conv, kind in kinds.items():
            conv.__class__ = kind
