"""Groups of channels from the labels of `Follower`, where torch-pruning loses count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from torch import nn

from finicky.errors import UnsupportedModelError
from finicky.pruning.channels import ChannelGroup, Member, Producer
from finicky.pruning.follow import Follower
from finicky.pruning.labels import NOBODY, PINNED
from finicky.pruning.trial import breaks_at

# A reason that no step gave: so many channels of one layer hang together that nothing is to choose.
_TIED = "too many of them can only go together"


def followed_groups(
    module: nn.Module, size: int, order: Mapping[str, int], pooled: set[nn.Module]
) -> list[ChannelGroup]:
    """The groups of a network, each with channels that the same convolutions make.

    Args:
        module: Takes ``(1, 3, size, size)``.
        size: Side of the trial input in px.
        order: Its convolutions, and when each first runs.
        pooled: Those whose maps are single pixels.
    """
    stiff: set[str] = set()
    while True:
        groups = _grouped(module, size, order, pooled, stiff)
        culprit = breaks_at(module, groups, size)
        if not culprit:
            return groups
        if culprit in stiff:
            raise UnsupportedModelError(
                f"{culprit} does not run any more when channels are cut: this network cannot be "
                "pruned safely"
            )
        stiff.add(culprit)


def _grouped(
    module: nn.Module,
    size: int,
    order: Mapping[str, int],
    pooled: set[nn.Module],
    stiff: set[str],
) -> list[ChannelGroup]:
    """The groups when what goes into some parts of the network, by name, stays whole."""
    follower = Follower(module)
    follower.run(module, size)
    for (name, _), found in follower.taken.items():
        for part in stiff:
            if name == part or name.startswith(f"{part}."):
                follower.labels.pin(found, f"{part} counts on all of them")
    units = follower.labels.units()
    # What belongs to nobody, such as zeros of padding, stays too.
    known = {key: follower.labels.names(found) for key, found in follower.taken.items()}
    taken = {key: np.where(found == NOBODY, PINNED, found) for key, found in known.items()}
    makers = _makers(taken, units, order)
    parts = _parts(taken, units, makers, order)
    layers = dict(module.named_modules())
    place = np.full(len(units), -1)
    for number, (_, chosen) in enumerate(parts):
        place[list(chosen)] = number
    shares = _shares(taken, units, place)
    groups = [
        _group(names, shares[number], units, order, layers, pooled)
        for number, (names, _) in enumerate(parts)
    ]
    for name in makers.get(PINNED, ()):
        key = (name, "out") if (name, "out") in taken else (name, "both")
        found = np.flatnonzero(units[taken[key]] == PINNED)
        labels = np.concatenate([follower.taken[key], taken[key]])
        reason = _reason(follower.labels.reasons, labels)
        groups.append(_whole(name, found, reason, order, layers, pooled))
    return sorted(groups, key=lambda g: g.producers[0].position)


_Taken = Mapping[tuple[str, str], np.ndarray]


def _makers(taken: _Taken, units: np.ndarray, order: Mapping[str, int]) -> dict[int, set[str]]:
    """By unit, the convolutions that make its channels; units that are too large are pinned."""
    outputs = [(n, found) for (n, side), found in taken.items() if n in order and side != "in"]
    for _, found in outputs:
        _pin_large(units, found)
    makers: defaultdict[int, set[str]] = defaultdict(set)
    for name, found in outputs:
        for unit in _units_of(found, units):
            makers[unit].add(name)
    return makers


def _units_of(labels: np.ndarray, units: np.ndarray) -> set[int]:
    return set(units[labels].tolist())


def _parts(
    taken: _Taken, units: np.ndarray, makers: Mapping[int, set[str]], order: Mapping[str, int]
) -> list[tuple[tuple[str, ...], set[int]]]:
    """Units with the same makers, parted further so that of every layer something stays.

    Of each part at least one unit is kept. A layer that takes half of the channels that another
    makes would otherwise lose all its inputs where the other half is better.
    """
    by_makers: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
    for unit, names in makers.items():
        if unit != PINNED:
            by_makers[tuple(sorted(names, key=lambda n: order[n]))].add(unit)
    parts = list(by_makers.items())
    for labels in taken.values():
        used = _units_of(labels, units)
        if PINNED in used or any(part <= used for _, part in parts):
            continue
        shared = [len(part & used) for _, part in parts]
        if max(shared, default=0):
            same, part = parts.pop(int(np.argmax(shared)))
            parts += [(same, part & used), (same, part - used)]
    return parts


def _pin_large(units: np.ndarray, found: np.ndarray) -> None:
    """Units that hold most of a layer's channels stay: it would be left with nothing."""
    inside, counts = np.unique(units[found], return_counts=True)
    for unit in inside[(counts > 1) & (counts > len(found) / 2)]:
        units[units == unit] = PINNED


def _reason(reasons: Mapping[int, str], labels: np.ndarray) -> str:
    """Why some labels stay, as far as a step said so of one of them."""
    for label in labels.tolist():
        if label in reasons:
            return reasons[label]
    return _TIED


_Shares = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]


def _shares(
    taken: Mapping[tuple[str, str], np.ndarray], units: np.ndarray, place: np.ndarray
) -> defaultdict[int, _Shares]:
    """By group, what each layer has of it: channel numbers and their labels."""
    found: defaultdict[int, _Shares] = defaultdict(dict)
    for key, labels in taken.items():
        where = place[units[labels]]
        for number in np.unique(where[where >= 0]).tolist():
            channels = np.flatnonzero(where == number)
            found[number][key] = (channels, labels[channels])
    return found


def _group(
    names: tuple[str, ...],
    share: _Shares,
    units: np.ndarray,
    order: Mapping[str, int],
    layers: Mapping[str, nn.Module],
    pooled: set[nn.Module],
) -> ChannelGroup:
    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        return share[(name, "out") if (name, "out") in share else (name, "both")]

    # Slots are numbered by the root's channels, then by those of others.
    labels = np.concatenate([part(names[0])[1], *(found for _, found in share.values())])
    own, first = np.unique(labels, return_index=True)
    slots = own[np.argsort(first)]
    number = {label: slot for slot, label in enumerate(slots.tolist())}

    def slots_of(found: np.ndarray) -> np.ndarray:
        return np.array([number[label] for label in found.tolist()], dtype=np.int64)

    producers = []
    for name in names:
        channels, found = part(name)
        is_pooled = layers[name] in pooled
        producers.append(Producer(name, order[name], channels, slots_of(found), is_pooled))
    members = tuple(Member(*key, channels, slots_of(f)) for key, (channels, f) in share.items())
    magnitudes = np.zeros(len(slots))
    magnitudes[producers[0].slots] = _norms(layers[names[0]])[producers[0].channels]
    tied = np.unique(units[slots], return_inverse=True)[1]
    return ChannelGroup(
        names[0], len(slots), tuple(producers), members, tied, magnitudes, followed=True
    )


def _whole(
    name: str,
    channels: np.ndarray,
    reason: str,
    order: Mapping[str, int],
    layers: Mapping[str, nn.Module],
    pooled: set[nn.Module],
) -> ChannelGroup:
    """Channels of one convolution that stay."""
    slots = np.arange(len(channels))
    producer = Producer(name, order[name], channels, slots, layers[name] in pooled)
    magnitudes = _norms(layers[name])[channels]
    return ChannelGroup(
        name, len(slots), (producer,), (), slots, magnitudes, whole=reason, followed=True
    )


def _norms(conv: nn.Module) -> np.ndarray:
    assert isinstance(conv, nn.Conv2d)
    norms: np.ndarray = conv.weight.detach().flatten(1).norm(dim=1).double().numpy()
    return norms
