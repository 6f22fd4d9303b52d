"""How many channels of each group stay: the same share everywhere, or more where it matters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from finicky.errors import UsageError, nearest_names
from finicky.pruning.channels import ChannelGroup

AllocationKind = Literal["uniform", "global", "sensitivity"]
ALLOCATIONS: tuple[AllocationKind, ...] = ("uniform", "global", "sensitivity")
# The shares of a group at which its loss is measured; between them it is a straight line.
LEVELS = (0.05, 0.2, 0.5, 1.0)
# A group gets its channels in so many portions, each where it helps most.
_PORTIONS = 64


@dataclass(frozen=True)
class Allocation:
    """The rule by which a keep ratio becomes a number of channels for each group.

    Attributes:
        kind: ``uniform``: the ratio in every group. ``global``: the best scores of all groups
            together, whichever group they are in. ``sensitivity``: more for groups whose cut
            changes the network's answer more.
        min_channels: Least that a group keeps, where it has so many.
        round_to: Channel counts from this number up become multiples of it; see `keep_count`.
        losses: For ``sensitivity``, by root of a group: how far the answer is off when only this
            group is cut to each of `LEVELS`.
    """

    kind: str = "uniform"
    min_channels: int = 1
    round_to: int = 1
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in ALLOCATIONS:
            raise UsageError(
                f"no allocation named {self.kind!r}. {nearest_names(self.kind, ALLOCATIONS)}"
            )
        if self.min_channels < 1:
            raise UsageError(f"min channels must be at least 1, got {self.min_channels}")
        if self.round_to < 1:
            raise UsageError(f"round_to must be at least 1, got {self.round_to}")


def keep_count(channels: int, keep_ratio: float, round_to: int = 1) -> int:
    """How many of ``channels`` stay: rounded half up, at least one.

    From ``round_to`` up, the nearest multiple of it: processors work on 8 or 16 channels at once,
    and a layer of 19 takes as long as one of 32. Smaller counts are left as they are.
    """
    return _rounded(channels * keep_ratio, channels, round_to)


def unit_counts(
    groups: Sequence[ChannelGroup],
    rankings: Sequence[np.ndarray],
    keep_ratio: float,
    allocation: Allocation,
) -> list[int]:
    """How many units of each group stay; of groups that stay whole, all.

    A unit is what is decided at once: a channel, or several that convolutions in groups tie.

    Args:
        groups: From `find_groups`.
        rankings: ``(units,)`` scores of each group, higher = keep; -inf = no evidence.
        keep_ratio: In (0, 1], of the channels of all groups that can be cut.
        allocation: The rule.
    """
    if allocation.kind == "global":
        wanted = _global_counts(groups, rankings, keep_ratio, allocation)
    elif allocation.kind == "sensitivity":
        wanted = _sensitive_counts(groups, keep_ratio, allocation)
    else:
        wanted = [len(_sizes(group)) * keep_ratio for group in groups]
    return [_settled(group, count, allocation) for group, count in zip(groups, wanted, strict=True)]


def _settled(group: ChannelGroup, count: float, allocation: Allocation) -> int:
    units = len(_sizes(group))
    if group.whole:
        return units
    # So many units that their channels are a multiple of round_to.
    multiple = allocation.round_to // math.gcd(allocation.round_to, _width(group))
    return max(_rounded(count, units, multiple), _least(group, allocation))


def _rounded(wanted: float, most: int, multiple: int) -> int:
    if wanted >= multiple:
        return min(most, max(1, math.floor(wanted / multiple + 0.5)) * multiple)
    return max(1, math.floor(wanted + 0.5))


def _sizes(group: ChannelGroup) -> np.ndarray:
    """Channels of each unit."""
    return np.bincount(group.units)


def _width(group: ChannelGroup) -> int:
    return max(1, group.size // len(_sizes(group)))


def _least(group: ChannelGroup, allocation: Allocation) -> int:
    """Units that a group keeps at least."""
    return min(len(_sizes(group)), math.ceil(allocation.min_channels / _width(group)))


def _global_counts(
    groups: Sequence[ChannelGroup],
    rankings: Sequence[np.ndarray],
    keep_ratio: float,
    allocation: Allocation,
) -> list[float]:
    """The best units of all groups, after the least that each keeps."""
    loose = [g for g, group in enumerate(groups) if not group.whole]
    owners = np.concatenate([np.full(len(rankings[g]), g) for g in loose])
    sizes = np.concatenate([_sizes(groups[g]) for g in loose])
    scores = np.concatenate([_with_least(groups[g], rankings[g], allocation) for g in loose])
    order = np.argsort(-scores, kind="stable")
    reached = np.cumsum(sizes[order])
    number = int(np.searchsorted(reached, keep_ratio * sizes.sum() * (1 + 1e-9), side="right"))
    counts = np.bincount(owners[order[: max(1, number)]], minlength=len(groups))
    return [float(c) for c in counts]


def _with_least(group: ChannelGroup, ranking: np.ndarray, allocation: Allocation) -> np.ndarray:
    scores = np.array(ranking, dtype=np.float64)
    scores[np.argsort(-ranking, kind="stable")[: _least(group, allocation)]] = np.inf
    return scores


def _sensitive_counts(
    groups: Sequence[ChannelGroup], keep_ratio: float, allocation: Allocation
) -> list[float]:
    """Portion after portion goes to the group whose loss falls most by a channel of it."""
    units = [len(_sizes(group)) for group in groups]
    loose = [g for g, group in enumerate(groups) if not group.whole]
    if missing := [groups[g].root for g in loose if groups[g].root not in allocation.losses]:
        raise UsageError(f"allocation by sensitivity lacks the loss of {missing[0]}")
    budget = keep_ratio * sum(groups[g].size for g in loose)
    counts = [float(u) for u in units]
    for g in loose:
        counts[g] = float(_least(groups[g], allocation))
    spent = sum(counts[g] * _width(groups[g]) for g in loose)
    while True:
        best, most, portion = -1, -math.inf, 0.0
        for g in loose:
            step = min(max(1.0, units[g] / _PORTIONS), units[g] - counts[g])
            if step <= 0 or spent + step * _width(groups[g]) > budget + 1e-9:
                continue
            loss = allocation.losses[groups[g].root]
            gain = _loss_at(counts[g] / units[g], loss) - _loss_at(
                (counts[g] + step) / units[g], loss
            )
            if gain / (step * _width(groups[g])) > most:
                best, most, portion = g, gain / (step * _width(groups[g])), step
        if best < 0:
            return counts
        counts[best] += portion
        spent += portion * _width(groups[best])


def _loss_at(share: float, losses: Sequence[float]) -> float:
    """A straight line between the levels, and on to all lost at nothing kept."""
    worst = max(1.0, *losses)
    return float(np.interp(share, (0.0, *LEVELS), (worst, *losses)))
