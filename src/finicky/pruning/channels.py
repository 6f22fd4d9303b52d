"""Channels of several layers that can only be removed together, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Producer:
    """A convolution that makes channels of a group.

    ``position`` is its place in forward order. ``channels[i]`` is the output channel that belongs
    to the group's ``slots[i]``. ``pooled``: its map is a single pixel, as within
    squeeze-and-excitation: it says nothing of where, and is not scored.
    """

    name: str
    position: int
    channels: np.ndarray
    slots: np.ndarray
    pooled: bool = False


@dataclass(frozen=True)
class Member:
    """What a group takes from one layer: ``axis[channels[i]]`` goes with ``slots[i]``.

    ``layer`` is the name of a module, or of a parameter that belongs to none. ``side`` is
    ``out``, ``in``, or ``both`` where a layer has one number of channels, as normalisation has.
    """

    layer: str
    side: str
    channels: np.ndarray
    slots: np.ndarray


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of several layers that can only be removed together.

    Attributes:
        root: The convolution whose output channels number the group's slots.
        size: How many slots there are.
        producers: Every convolution that makes them, the root included, in forward order.
        members: Every layer that has them as inputs or outputs.
        units: ``(size,)`` the decision that each slot belongs to, from 0: slots of one unit stay
            or go together, which convolutions in groups ask for; otherwise each slot is its own.
        magnitudes: ``(size,)`` L2 norm of the filters that make a slot, of the first producer.
        whole: Why all slots must stay, such as a layer that mixes them; empty: they need not.
        followed: Found by `Follower`, and cut by what it found.
    """

    root: str
    size: int
    producers: tuple[Producer, ...]
    members: tuple[Member, ...]
    units: np.ndarray
    magnitudes: np.ndarray
    whole: str = ""
    followed: bool = False

    @property
    def is_pooled(self) -> bool:
        """No producer has a map: filters can only be told apart by their weights."""
        return all(p.pooled for p in self.producers)
