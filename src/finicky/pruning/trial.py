"""Does a network run at all with fewer channels? If not, where does it stop?"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from finicky.pruning.channels import ChannelGroup
from finicky.pruning.check import removed_channels
from finicky.pruning.removal import remove_channels


def breaks_at(module: nn.Module, groups: Sequence[ChannelGroup], size: int) -> str:
    """The part of a network, by name, that stops when every second channel is gone; or nothing.

    Some code counts channels where nothing of it is seen from outside, as attention does that
    shapes one map after another.
    """
    keep: dict[str, set[int]] = {}
    for group in groups:
        stays = np.isin(group.units, np.unique(group.units)[::2]) | bool(group.whole)
        for producer in group.producers:
            chosen = producer.channels[stays[producer.slots]]
            keep.setdefault(producer.name, set()).update(chosen.tolist())
    smaller = deepcopy(module)
    lists = {name: sorted(channels) for name, channels in keep.items()}
    remove_channels(smaller, removed_channels(groups, lists))
    return stops_at(smaller, size)


def stops_at(module: nn.Module, size: int) -> str:
    """The part, by name, in which a forward pass fails; nothing if it does not fail."""
    last, inside = [""], [""]

    def enter(name: str) -> Any:
        def note(_: nn.Module, __: object) -> None:
            last[0] = name
            inside.append(name)

        return note

    def leave(_: nn.Module, __: object, ___: object) -> None:
        inside.pop()

    hooks = []
    for name, layer in module.named_modules():
        hooks += [layer.register_forward_pre_hook(enter(name)), layer.register_forward_hook(leave)]
    try:
        with torch.inference_mode(), contextlib.redirect_stderr(io.StringIO()):
            module(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError, IndexError, AssertionError):
        # A layer itself, or, between layers, the part that the last one belongs to.
        stuck = inside[-1]
        is_leaf = next(module.get_submodule(stuck).children(), None) is None
        return stuck if is_leaf and stuck else last[0].rpartition(".")[0] or last[0]
    finally:
        for hook in hooks:
            hook.remove()
    return ""
