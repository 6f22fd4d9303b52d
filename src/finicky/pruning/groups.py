"""Which channels must go together: torch-pruning's dependency groups, in forward order.

See Fang et al. 2023, "DepGraph", arXiv:2301.12900.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from finicky.backbones import convolutions
from finicky.errors import ShapeError, UnsupportedModelError
from finicky.pruning.channels import ChannelGroup, Member, Producer
from finicky.pruning.dependencies import can_be_traced, goes_by_whole_groups, is_grouped, traced
from finicky.pruning.follow import steps_of
from finicky.pruning.followed import followed_groups

# Larger than any stride of a classifier: a map that is one pixel here was pooled.
_LARGE = 224
# Slots times layers of a group that are looked at one by one: half a minute, not half an hour.
_MOST_PROBES = 20_000
# Steps, beside arithmetic, through which torch-pruning follows channels. Through others, such as
# products of maps, its search may take longer than anybody waits.
_PLAIN = frozenset(
    """
    convolution native_batch_norm native_layer_norm addmm cat mean permute view detach alias clone
    max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d upsample_nearest2d upsample_bilinear2d
    constant_pad_nd
    """.split()  # noqa: SIM905
)


def find_groups(module: nn.Module, size: int) -> list[ChannelGroup]:
    """The groups of a backbone, ordered by when their first convolution runs.

    Args:
        module: ``(N, 3, H, W)`` in, feature map out; its last channels may be cut too.
        size: Side of the trial input in px.

    Raises:
        UnsupportedModelError: A convolution is in no group, or its channels cannot be followed,
            so that it could not be pruned; the message names it.
    """
    order = {name: number for number, name in enumerate(convolutions(module, size))}
    pooled = _pooled(module, size)
    groups = None
    if can_be_traced(module) and steps_of(module, size) <= _PLAIN:
        groups = _traced_groups(module, size, order, pooled)
    if groups is None:
        groups = followed_groups(module, size, order, pooled)
    placed = {p.name for g in groups for p in g.producers}
    missing = [name for name in order if name not in placed]
    if missing:
        raise UnsupportedModelError(
            f"torch-pruning finds no group for {missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}: "
            "this network cannot be pruned safely"
        )
    groups.sort(key=lambda g: g.producers[0].position)
    if groups and all(group.whole for group in groups):
        raise UnsupportedModelError(
            f"nothing of this network can be cut: {groups[0].root} must stay whole, because "
            f"{groups[0].whole}, and so must the others"
        )
    return groups


def _traced_groups(
    module: nn.Module, size: int, order: Mapping[str, int], pooled: set[nn.Module]
) -> list[ChannelGroup] | None:
    """From torch-pruning's graph; None where it cannot follow the channels."""
    try:
        with traced(module, size) as graph:
            groups = [
                _group(graph, raw, module, order, pooled)
                for raw in graph.get_all_groups(root_module_types=[nn.Conv2d])
            ]
    except UnsupportedModelError:
        return None
    placed = {p.name for g in groups for p in g.producers}
    return groups if placed.issuperset(order) else None


def group_scores(group: ChannelGroup, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """One score a slot: the mean over the convolutions that make it, ``(size,)`` float64.

    Producers without a score, single NaN scores and pooled producers are left out of the mean; a
    slot that nothing scored is NaN. Slots of one unit have one score, their mean. A group whose
    producers are all pooled is ranked by the magnitude of its filters.
    """
    if group.whole:
        return np.full(group.size, np.nan)
    if group.is_pooled:
        return _unit_means(group, group.magnitudes)
    total, known = np.zeros(group.size), np.zeros(group.size)
    for producer in group.producers:
        if producer.name not in scores or producer.pooled:
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
    return _unit_means(group, np.where(known > 0, total / np.maximum(known, 1), np.nan))


def _unit_means(group: ChannelGroup, slots: np.ndarray) -> np.ndarray:
    count = group.units.max() + 1
    if count == group.size:
        return slots
    seen = ~np.isnan(slots)
    total = np.bincount(group.units[seen], slots[seen], minlength=count)
    known = np.bincount(group.units[seen], minlength=count)
    means = np.where(known > 0, total / np.maximum(known, 1), np.nan)
    return means[group.units]


def _pooled(module: nn.Module, size: int) -> set[nn.Module]:
    """Convolutions whose map is a single pixel, whatever the size of the photo."""
    found = _single_pixels(module, size)
    return found & _single_pixels(module, _LARGE) if found else found


def _single_pixels(module: nn.Module, size: int) -> set[nn.Module]:
    found: set[nn.Module] = set()

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        if max(output.shape[2:]) == 1:
            found.add(layer)

    hooks = [m.register_forward_hook(note) for m in module.modules() if isinstance(m, nn.Conv2d)]
    try:
        # A head that takes maps of one size only fails at the other; its convolutions are seen.
        with torch.inference_mode(), suppress(RuntimeError, ValueError):
            module(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _entangled(graph: tp.DependencyGraph, raw: tp.Group) -> np.ndarray:
    """Slots that torch-pruning takes together, one label each: shortcuts around concatenations."""
    root, prune = raw[0].dep.target.module, raw[0].dep.handler
    size = len(raw[0].idxs)
    leader = np.arange(size)

    def taken(slot: int) -> np.ndarray:
        alone = graph.get_pruning_group(root, prune, [slot])
        same = (i.idxs for i in alone if i.dep.target.module is root and i.dep.handler == prune)
        found = np.unique([int(index) for indices in same for index in indices])
        return found[found < size]

    if len(taken(0)) == len(taken(size // 2)) == 1:
        return leader
    if size * len(raw) > _MOST_PROBES:
        raise UnsupportedModelError(
            f"the channels that {raw[0].dep.target.name.split()[0]} makes are tied to each other "
            "across too many layers: this network cannot be pruned safely"
        )
    for slot in range(size):
        if leader[slot] == slot:
            tied = np.isin(leader, leader[taken(slot)])
            leader = np.where(tied, leader[tied].min(), leader)
    return leader


def _group(
    graph: tp.DependencyGraph,
    raw: tp.Group,
    module: nn.Module,
    order: Mapping[str, int],
    pooled: set[nn.Module],
) -> ChannelGroup:
    names: dict[object, str] = {layer: name for name, layer in module.named_modules()}
    names |= {parameter: name for name, parameter in module.named_parameters()}
    layers = dict(module.named_modules())
    members = _members(raw, names)
    _check_members(members, layers, len(raw[0].idxs))
    producers = {
        m.layer: Producer(m.layer, order[m.layer], m.channels, m.slots, layers[m.layer] in pooled)
        for m in members
        if m.layer in order and m.side != "in"
    }
    ordered = sorted(producers.values(), key=lambda p: p.position)
    size = len(raw[0].idxs)
    filters = layers[ordered[0].name].weight.detach().flatten(1).norm(dim=1)
    magnitudes = np.zeros(size)
    magnitudes[ordered[0].slots] = filters.double().numpy()[ordered[0].channels]
    return ChannelGroup(
        names[raw[0].dep.target.module],
        size,
        tuple(ordered),
        tuple(members),
        _units(members, layers, _entangled(graph, raw)),
        magnitudes,
    )


def _members(raw: tp.Group, names: Mapping[object, str]) -> list[Member]:
    found: dict[tuple[str, str], Member] = {}
    for item in raw:
        layer = item.dep.target.module
        if layer not in names:
            continue  # an operator without weights
        pruner = item.dep.target and getattr(item.dep.handler, "__self__", None)
        if pruner is not None and type(pruner).prune_in_channels is type(pruner).prune_out_channels:
            side = "both"
        else:
            side = "out" if item.dep.handler.__name__ == "prune_out_channels" else "in"
        channels = np.asarray(item.idxs, dtype=np.int64)
        slots = np.asarray(item.root_idxs, dtype=np.int64)
        found.setdefault((names[layer], side), Member(names[layer], side, channels, slots))
    return list(found.values())


def _check_members(members: list[Member], layers: Mapping[str, nn.Module], size: int) -> None:
    """Refuse what torch-pruning miscounted, as it does behind some splits of a map."""
    for member in members:
        layer = layers.get(member.layer)
        if not isinstance(layer, nn.Conv2d):
            continue
        length = layer.in_channels if member.side == "in" else layer.out_channels
        if member.channels.max() >= length or member.slots.max() >= size:
            raise UnsupportedModelError(
                f"torch-pruning miscounts the channels of {member.layer}: this network cannot be "
                "pruned safely"
            )


def _units(
    members: list[Member], layers: Mapping[str, nn.Module], leader: np.ndarray
) -> np.ndarray:
    """The decision that each slot belongs to, numbered by its lowest slot.

    ``leader`` are the slots that are tied already.
    """
    for member in members:
        conv = layers.get(member.layer)
        if not isinstance(conv, nn.Conv2d) or not is_grouped(conv):
            continue
        length = conv.in_channels if member.side == "in" else conv.out_channels
        if len(np.unique(member.channels)) != length:
            raise UnsupportedModelError(
                f"{member.layer} is a convolution in {conv.groups} groups whose channels come from "
                "layers that are cut apart from each other: this network cannot be pruned safely"
            )
        width = length // conv.groups
        whole = goes_by_whole_groups(conv)
        labels = member.channels // width if whole else member.channels % width
        leader = _merge(leader, member.slots, labels)
    return np.unique(leader, return_inverse=True)[1]


def _merge(leader: np.ndarray, slots: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tie slots with equal labels, and all that they were tied to before."""
    for label in np.unique(labels):
        tied = np.isin(leader, leader[slots[labels == label]])
        leader = np.where(tied, leader[tied].min(), leader)
    return leader
