"""Take channels out of layers, by number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finicky.backbones.picks import ChannelPick, first_of
from finicky.errors import UnsupportedModelError
from finicky.pruning.dependencies import goes_by_whole_groups, is_depthwise, is_grouped


def remove_channels(network: nn.Module, removed: Mapping[tuple[str, str], np.ndarray]) -> None:
    """Shrink the layers of a network, in place.

    Args:
        network: What the names are of.
        removed: From `check.removed_channels`.
    """
    layers = dict(network.named_modules())
    by_layer: dict[str, dict[str, np.ndarray]] = {}
    for (name, side), channels in removed.items():
        by_layer.setdefault(name, {})[side] = channels
    for name, sides in by_layer.items():
        layer = layers.get(name)
        if isinstance(layer, nn.Conv2d):
            _shrink_convolution(layer, sides)
        elif isinstance(layer, nn.Linear):
            _shrink_linear(layer, sides)
        elif isinstance(layer, ChannelPick):
            _shrink_pick(layer, sides)
        elif layer is not None:
            _shrink_normalisation(layer, sides["both"], name)
        else:
            owner, _, inner = name.rpartition(".")
            _shrink_alone(layers[owner], inner, sides["both"])


def _keep(layer: nn.Module, name: str, axis: int | None, gone: np.ndarray) -> None:
    """Take indices out of one axis of a parameter or buffer; its longest axis by default."""
    value = getattr(layer, name, None)
    if not isinstance(value, Tensor) or not len(gone):
        return
    axis = int(np.argmax(value.shape)) if axis is None else axis
    stay = np.setdiff1d(np.arange(value.shape[axis]), gone)
    smaller = value.detach().index_select(axis, torch.from_numpy(stay))
    is_parameter = isinstance(value, nn.Parameter)
    setattr(layer, name, nn.Parameter(smaller, value.requires_grad) if is_parameter else smaller)


def _shrink_convolution(conv: nn.Conv2d, sides: Mapping[str, np.ndarray]) -> None:
    nothing = np.empty(0, dtype=np.int64)
    gone = sides.get("both", sides.get("out", nothing))
    lost = sides.get("both", sides.get("in", nothing))
    by_groups = is_grouped(conv) and goes_by_whole_groups(conv)
    width = conv.in_channels // conv.groups
    if is_depthwise(conv) or by_groups:
        share = conv.out_channels // conv.groups
        conv.groups -= len(np.unique(gone // share))
    else:
        _keep(conv, "weight", 1, np.unique(lost % width))
    _keep(conv, "weight", 0, gone)
    _keep(conv, "bias", 0, gone)
    conv.out_channels -= len(gone)
    conv.in_channels -= len(lost)


def _shrink_linear(layer: nn.Linear, sides: Mapping[str, np.ndarray]) -> None:
    for side, axis in (("in", 1), ("out", 0)):
        _keep(layer, "weight", axis, sides.get(side, np.empty(0, dtype=np.int64)))
    gone = sides.get("out", np.empty(0, dtype=np.int64))
    _keep(layer, "bias", 0, gone)
    layer.out_features -= len(gone)
    layer.in_features -= len(sides.get("in", ()))


def _shrink_pick(layer: ChannelPick, sides: Mapping[str, np.ndarray]) -> None:
    """Number the channels that stay anew, in what comes in and in what goes out."""
    order = np.delete(layer.order.numpy(), sides.get("out", []))
    gone = sides.get("in", np.empty(0, dtype=np.int64))
    layer.order = torch.from_numpy(order - np.searchsorted(gone, order))
    layer.start = first_of(layer.order)


def _shrink_alone(owner: nn.Module, name: str, gone: np.ndarray) -> None:
    """A parameter of a layer of an unknown kind, and what the layer remembers of its shape."""
    before = max(getattr(owner, name).shape)
    _keep(owner, name, None, gone)
    for attribute, value in list(vars(owner).items()):
        if isinstance(value, tuple) and value.count(before) == 1:
            smaller = (n - len(gone) if n == before else n for n in value)
            setattr(owner, attribute, tuple(smaller))
    if getattr(owner, "num_features", None) == before:
        owner.num_features = before - len(gone)


def _shrink_normalisation(layer: Any, gone: np.ndarray, name: str) -> None:
    for inner in ("weight", "bias", "running_mean", "running_var"):
        _keep(layer, inner, 0, gone)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.num_features -= len(gone)
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (layer.normalized_shape[0] - len(gone),)
    elif isinstance(layer, nn.GroupNorm):
        width = layer.num_channels // layer.num_groups
        if layer.num_groups > 1:
            layer.num_groups -= len(gone) // width
        layer.num_channels -= len(gone)
    else:
        raise UnsupportedModelError(f"{name} ({type(layer).__name__}) cannot be cut")
