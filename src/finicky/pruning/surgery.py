"""Physically remove channels from a network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
import torch_pruning as tp
from torch import Tensor, nn

from finicky.backbones import Backbone, Whole, convolutions, freeze
from finicky.errors import FinickyError, UnsupportedModelError, UsageError
from finicky.pruning.check import (
    check_counts,
    check_equivalent,
    expected_counts,
    removed_channels,
)
from finicky.pruning.counts import count
from finicky.pruning.dependencies import traced
from finicky.pruning.groups import find_groups
from finicky.pruning.removal import remove_channels


def cut(
    module: nn.Module, keep: Mapping[str, Sequence[int]], size: int, *, verify: bool = True
) -> nn.Module:
    """A smaller copy of ``module`` that holds only the kept channels.

    Everything coupled to a cut channel (batch normalisation with its statistics, depthwise
    filters, the inputs of what follows) is cut with it, through torch-pruning's groups. The
    weights that stay are the same numbers. ``module`` itself is not changed.

    Args:
        module: The unpruned network.
        keep: For each group's root convolution, the output channels that stay, ascending.
        size: Side of the trial input in px.
        verify: Check that the cut network has the parameters and MACs that follow from the plan,
            answers as the whole one does with those channels dark, and that ``module`` is as
            before. Only channel counts and one forward pass are checked otherwise.

    Raises:
        UsageError: A name is no convolution, or a channel number does not exist.
        UnsupportedModelError: The network cannot be cut correctly.
        FinickyError: The result does not add up; nothing is returned then.
    """
    return _cut([module], keep, size, verify=verify)[0]


def cut_both(
    module: nn.Module,
    head: nn.Module,
    keep: Mapping[str, Sequence[int]],
    size: int,
    *,
    verify: bool = True,
) -> tuple[nn.Module, nn.Module]:
    """As `cut`, and with it the inputs of the head that follows; the head's outputs stay.

    Args:
        module: The unpruned features.
        head: What turns their map into the classes.
        keep: As for `cut`: convolutions of the features.
        size: Side of the trial input in px, one that the head takes.
        verify: As for `cut`.

    Returns:
        Smaller copies of both.
    """
    features, smaller = _cut([module, head], keep, size, verify=verify)
    return features, smaller


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


def _cut(
    parts: list[nn.Module], keep: Mapping[str, Sequence[int]], size: int, *, verify: bool
) -> list[nn.Module]:
    """Features, and their head if there is one, with only the kept channels."""
    before = network_state(parts)
    copies = deepcopy(parts)
    whole = freeze(Whole(*copies) if len(copies) == 2 else copies[0])
    prefix = "features." if len(copies) == 2 else ""
    named = {f"{prefix}{name}": channels for name, channels in keep.items()}
    shape = _answer(whole, size).shape
    layers = convolutions(copies[0], size)
    check_names(layers, keep)
    groups = find_groups(whole, size)
    removed = removed_channels(groups, named)
    if verify:
        expected = expected_counts(whole, removed, size)
    if any(group.followed for group in groups):
        remove_channels(whole, removed)
    else:
        with traced(whole, size) as graph:
            for name, channels in keep.items():
                _cut_one(graph, layers[name], name, channels)
    freeze(whole)
    _check(copies[0], keep, size)
    if len(parts) == 2 and _answer(whole, size).shape != shape:
        raise FinickyError(
            f"cutting changed the network's output from {tuple(shape)}: its classes are tied to "
            "channels that the plan cuts"
        )
    if verify:
        check_counts(count(whole, size), expected)
        check_equivalent(parts, copies, removed, size)
        if network_state(parts) != before:
            raise FinickyError("cutting changed the network that was given")
    return copies


def network_state(parts: Sequence[nn.Module]) -> tuple[object, ...]:
    """What must not change of a network: its numbers, modes and flags."""
    digest = hashlib.sha256()
    for part in parts:
        for tensor in part.state_dict().values():
            digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
    modes = tuple((type(m), m.training) for part in parts for m in part.modules())
    return digest.digest(), modes, tuple(p.requires_grad for q in parts for p in q.parameters())


def check_names(layers: Mapping[str, nn.Conv2d], keep: Mapping[str, Sequence[int]]) -> None:
    """Refuse a plan that names what the network does not have."""
    for name, channels in keep.items():
        if name not in layers:
            raise UsageError(f"the plan cuts {name}, which this network does not have")
        number, stay = layers[name].out_channels, set(channels)
        if not stay or min(stay) < 0 or max(stay) >= number or len(stay) < len(channels):
            raise UsageError(
                f"{name} has channels 0 to {number - 1}; the plan keeps {sorted(stay)[:8]}"
            )


def _cut_one(
    graph: tp.DependencyGraph, layer: nn.Conv2d, name: str, channels: Sequence[int]
) -> None:
    stay = set(channels)
    drop = [i for i in range(layer.out_channels) if i not in stay]
    if not drop:
        return
    prune = graph.get_pruner_of_module(layer).prune_out_channels
    # Not group.prune(idxs=…): it records a second time with all channels (torch-pruning 1.6.1).
    group = graph.get_pruning_group(layer, prune, drop)
    if not graph.check_pruning_group(group):
        raise UnsupportedModelError(
            f"{name} cannot be cut to {len(stay)} channels: nothing would be left of "
            f"{_emptied(graph, group)}, which is tied to it"
        )
    group.prune()


def _emptied(graph: tp.DependencyGraph, group: tp.Group) -> str:
    """The first layer of a group that would lose all its channels."""
    names = {m: n for n, m in graph.model.named_modules()}
    for item in group:
        layer = item.dep.target.module
        is_out = graph.is_out_channel_pruning_fn(item.dep.handler)
        length = graph.get_out_channels(layer) if is_out else graph.get_in_channels(layer)
        if length is not None and len(item.idxs) >= length:
            return f"{names.get(layer, item.dep.target.name)} ({type(layer).__name__})"
    return "a layer"


def _answer(module: nn.Module, size: int) -> Tensor:
    try:
        with torch.inference_mode():
            return module(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        raise FinickyError(f"the network does not run on {size} px: {error}") from error


def _check(module: nn.Module, keep: Mapping[str, Sequence[int]], size: int) -> None:
    """Channel counts add up, and one forward pass runs."""
    try:
        answer = _answer(module, size)
    except FinickyError as error:
        raise UnsupportedModelError(
            "this network cannot be cut safely: some layer does not follow the channels that are "
            f"tied to it ({error})"
        ) from error
    if not torch.isfinite(answer).all():
        raise FinickyError("the cut network answers a black photo with NaN or infinity")
    layers = dict(module.named_modules())
    for name, channels in keep.items():
        conv = layers[name]
        assert isinstance(conv, nn.Conv2d)
        if conv.out_channels != len(channels) or conv.weight.shape[0] != len(channels):
            raise FinickyError(f"{name} has {conv.out_channels} channels, not {len(channels)}")
