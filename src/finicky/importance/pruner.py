"""Our scores inside torch-pruning's own pruners."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from finicky.backbones import convolutions
from finicky.errors import FinickyError, ShapeError, UsageError
from finicky.pruning.dependencies import traced

_ON_CHANNELS = ("prune_out_channels",)


class MaskImportance(tp.importance.Importance):
    """Importance of channels by scores of the *unpruned* network, for torch-pruning's pruners.

        scores = finicky.score_filters(backbone, "photos", "masks")
        importance = MaskImportance(backbone.module, scores)
        pruner = tp.pruner.BasePruner(backbone.module, inputs, importance=importance)

    Coupled channels get the mean of the scores of the convolutions that make them. Pruning in
    several steps is handled: torch-pruning counts the channels that are left anew after each step,
    and scores read by those numbers would be those of other filters, without an error. So its
    record of what it cut is followed here on a copy of the network that only carries numbers.

    Args:
        module: The unpruned network, before anything is cut.
        scores: ``(C,)`` by name of convolution, higher = keep. Convolutions without scores decide
            nothing.
        size: Side in px of a trial input that the network takes.
    """

    def __init__(
        self, module: nn.Module, scores: Mapping[str, np.ndarray], *, size: int = 64
    ) -> None:
        layers = convolutions(module, size)
        for name, own in scores.items():
            if name not in layers:
                raise UsageError(f"there are scores for {name}, which this network does not have")
            if len(own) != layers[name].out_channels:
                raise ShapeError(
                    f"{len(own)} scores for {name}, expected {layers[name].out_channels}"
                )
        self._scores = {n: np.nan_to_num(s, nan=-np.inf) for n, s in scores.items()}
        self._names = {layer: name for name, layer in layers.items()}
        self._size = size
        self._carrier = _numbered(module, layers)
        self._followed = 0

    @torch.no_grad()
    def __call__(self, group: tp.Group) -> Tensor | None:
        """One score a channel of the group's root, as torch-pruning numbers them now."""
        self._follow(group._DG)
        count = len(group[0].idxs)
        total, known = torch.zeros(count), torch.zeros(count)
        carried = dict(self._carrier.named_modules())
        for item in group:
            name = self._names.get(item.dep.target.module)
            if name not in self._scores or item.dep.handler.__name__ not in _ON_CHANNELS:
                continue
            numbers = carried[name].weight.flatten(1)[:, 0].long()
            if len(numbers) != item.dep.target.module.out_channels:
                raise FinickyError(
                    f"{name} has {item.dep.target.module.out_channels} channels, and torch-pruning "
                    f"recorded cuts to {len(numbers)}: cut with pruner.step() or group.prune(); "
                    "group.prune(idxs=...) is recorded wrongly by torch-pruning 1.6"
                )
            own = torch.as_tensor(self._scores[name], dtype=torch.float32)[numbers]
            slots = torch.as_tensor(item.root_idxs)
            total.index_add_(0, slots, own[torch.as_tensor(item.idxs)])
            known.index_add_(0, slots, torch.ones(len(slots)))
        return None if not known.max() else total / known.clamp(min=1)

    def _follow(self, graph: Any) -> None:
        """Cut the carrier as the network was cut since the last time."""
        history = graph.pruning_history()
        if len(history) == self._followed:
            return
        with traced(self._carrier, self._size) as mirror:
            try:
                mirror.load_pruning_history(history[self._followed :])
            except (AssertionError, IndexError, RuntimeError, KeyError) as error:
                raise FinickyError(
                    "torch-pruning's record of its cuts does not fit the network that "
                    f"MaskImportance was made with ({error}): make it before anything is cut"
                ) from error
        self._followed = len(history)


def _numbered(module: nn.Module, layers: Mapping[str, nn.Conv2d]) -> nn.Module:
    """A copy of a network in which every weight of a convolution's filter i is i."""
    copy = deepcopy(module).requires_grad_(False)
    for name in layers:
        weight = copy.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        numbers = torch.arange(len(weight), dtype=weight.dtype)
        weight.copy_(numbers.view(-1, 1, 1, 1).expand_as(weight))
    return copy.eval()
