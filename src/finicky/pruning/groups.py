"""Which channels must go together: torch-pruning's dependency groups, in forward order.

See Fang et al. 2023, "DepGraph", arXiv:2301.12900.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch_pruning as tp
from torch import nn

from finicky.backbones import convolutions
from finicky.errors import ShapeError, UnsupportedModelError

_MAKES_CHANNELS = (tp.prune_conv_out_channels, tp.prune_depthwise_conv_out_channels)


@dataclass(frozen=True)
class Producer:
    """A convolution that makes channels of a group.

    ``position`` is its place in forward order. ``channels[i]`` is the output channel that belongs
    to the group's ``slots[i]``.
    """

    name: str
    position: int
    channels: np.ndarray
    slots: np.ndarray


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of several layers that can only be removed together.

    Attributes:
        root: The convolution whose output channels number the group's slots.
        size: How many slots there are, one decision each.
        producers: Every convolution that makes them, the root included, in forward order.
    """

    root: str
    size: int
    producers: tuple[Producer, ...]


def trace(module: nn.Module, size: int) -> tp.DependencyGraph:
    """torch-pruning's graph of a module.

    The graph is traced by autograd, so that a frozen network would look empty (torch-pruning
    prunes nothing then, without a word). Gradients are switched on for the trace; modes and flags
    are restored.
    """
    training = module.training
    frozen = [p for p in module.parameters() if not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tp.DependencyGraph()
            # Two photos: of one, pooling drops the batch axis, and channels are miscounted.
            return graph.build_dependency(module, torch.zeros(2, 3, size, size), verbose=False)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        module.train(training)


def find_groups(module: nn.Module, size: int) -> list[ChannelGroup]:
    """The groups of a backbone, ordered by when their first convolution runs.

    Args:
        module: ``(N, 3, H, W)`` in, feature map out; its last channels may be cut too.
        size: Side of the trial input in px.

    Raises:
        UnsupportedModelError: A convolution is in no group, so that it could not be pruned; the
            message names it.
    """
    graph = trace(module, size)
    order = list(convolutions(module, size))
    names = {layer: name for name, layer in module.named_modules()}
    groups = []
    for raw in graph.get_all_groups(root_module_types=[nn.Conv2d]):
        groups.append(_group(raw, names, order))
    placed = {p.name for g in groups for p in g.producers}
    missing = [name for name in order if name not in placed]
    if missing:
        raise UnsupportedModelError(
            f"torch-pruning finds no group for {missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}: "
            "this network cannot be pruned safely"
        )
    return sorted(groups, key=lambda g: g.producers[0].position)


def group_scores(group: ChannelGroup, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """One score a slot: the mean over the convolutions that make it, ``(size,)`` float64.

    Producers without a score, and single NaN scores, are left out of the mean; a slot that
    nothing scored is NaN.
    """
    total, known = np.zeros(group.size), np.zeros(group.size)
    for producer in group.producers:
        if producer.name not in scores:
            continue
        own = np.asarray(scores[producer.name], dtype=np.float64)
        if len(own) <= producer.channels.max():
            raise ShapeError(
                f"{len(own)} scores for {producer.name}, expected {producer.channels.max() + 1}"
            )
        values = own[producer.channels]
        seen = ~np.isnan(values)
        np.add.at(total, producer.slots[seen], values[seen])
        np.add.at(known, producer.slots[seen], 1)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan)


def _group(raw: tp.Group, names: Mapping[nn.Module, str], order: list[str]) -> ChannelGroup:
    root = raw[0].dep.target.module
    producers = []
    for item in raw:
        layer = item.dep.target.module
        if item.dep.handler in _MAKES_CHANNELS and names[layer] in order:
            if layer.groups not in (1, layer.out_channels):
                raise UnsupportedModelError(
                    f"{names[layer]} is a convolution in {layer.groups} groups; only plain and "
                    "depthwise ones can be pruned so far"
                )
            channels = np.asarray(item.idxs, dtype=np.int64)
            slots = np.asarray(item.root_idxs, dtype=np.int64)
            position = order.index(names[layer])
            producers.append(Producer(names[layer], position, channels, slots))
    unique = {p.name: p for p in producers}
    ordered = sorted(unique.values(), key=lambda p: p.position)
    return ChannelGroup(names[root], len(raw[0].idxs), tuple(ordered))
