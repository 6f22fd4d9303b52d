"""Tensors whose every number has a label: which channel it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from finicky.pruning.labels import NOBODY, PINNED, Labels


class LabelledTensors:
    """Labels of tensors, as tensors of the same shape, for as long as the tensors live.

    Attributes:
        labels: All that were given out.
        taken: By name of a layer or lone parameter and side (``in``, ``out`` or ``both``), the
            label of each of its channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.labels = Labels()
        self.taken: dict[tuple[str, str], np.ndarray] = {}
        self._of: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._inside: list[str] = []

    def _place(self) -> str:
        return self._inside[-1] if self._inside and self._inside[-1] else "the network"

    def _label_alone(self, name: str, tensor: Tensor) -> None:
        """A parameter that belongs to no known layer: its channels lie along its longest axis."""
        axis = int(np.argmax(tensor.shape))
        shape = [1] * tensor.ndim
        shape[axis] = -1
        found = self.labels.fresh(tensor.shape[axis])
        self.taken[name, "both"] = found
        self._of[tensor] = torch.from_numpy(found).float().view(shape).expand(tensor.shape)

    def _take(self, name: str, side: str, found: np.ndarray) -> np.ndarray:
        """A layer has these channels; run again, it has the same ones."""
        known = self.taken.setdefault((name, side), found)
        self.labels.unite(known, found)
        return known

    def _made(self, name: str, count: int) -> np.ndarray:
        if (name, "out") not in self.taken:
            self.taken[name, "out"] = self.labels.fresh(count)
        return self.taken[name, "out"]

    def _channels(self, tensor: Tensor, axis: int) -> np.ndarray:
        """A label for each step along an axis; channels that lie along others stay whole."""
        labels = self._of.get(tensor)
        if labels is None:
            return np.full(tensor.shape[axis], PINNED)
        axis %= tensor.ndim
        others = [a for a in range(tensor.ndim) if a != axis]
        reason = f"{self._place()} mixes neighbouring ones"
        return self._merge(labels, others, reason).flatten().numpy().astype(np.int64)

    def _spread(self, found: np.ndarray, result: Tensor, axis: int) -> None:
        shape = [1] * result.ndim
        shape[axis] = -1
        self._of[result] = torch.from_numpy(found).float().view(shape).expand(result.shape)

    def _merge(self, labels: Tensor, axes: Sequence[int], reason: str = "") -> Tensor:
        """One label for all along some axes, kept as axes of one step.

        Different ones are tied together; with a reason, they may not be cut.
        """
        if not axes:
            return labels
        small = compact(labels)
        axes = sorted({a % labels.ndim for a in axes})
        rest = [a for a in range(labels.ndim) if a not in axes]
        rows = small.permute(*axes, *rest).flatten(0, len(axes) - 1)
        for column in self._uneven(rows.reshape(len(rows), -1)).T.numpy():
            if reason:
                self.labels.pin(column, reason)
            else:
                self.labels.tie(column)
        top = small.amax(axes, keepdim=True)
        return top.expand([1 if a in axes else n for a, n in enumerate(labels.shape)])

    def _uneven(self, rows: Tensor) -> Tensor:
        """The columns, each once, that hold different channels."""
        lowest = torch.where(rows == NOBODY, torch.inf, rows).amin(0)
        columns = rows[:, (rows.amax(0) != lowest) & (rows.amax(0) != NOBODY)]
        if columns.shape[1]:
            columns = torch.unique(columns, dim=1)
            keep = [len(set(self.labels.names(c[c != NOBODY]))) > 1 for c in columns.T.numpy()]
            columns = columns[:, torch.tensor(keep)]
        return columns

    def _varies(self, labels: Tensor, axis: int) -> bool:
        rows = compact(labels).movedim(axis, 0).flatten(1)
        return self._uneven(rows).shape[1] > 0

    def _pin(self, tensor: Any, reason: str) -> None:
        if isinstance(tensor, Tensor) and tensor in self._of:
            self._pin_labels(self._of[tensor], reason)

    def _pin_labels(self, labels: Tensor, reason: str) -> None:
        self.labels.pin(compact(labels).numpy(), reason)


def compact(labels: Tensor) -> Tensor:
    """Without what was only repeated: one step along axes in which nothing changes."""
    for axis, stride in enumerate(labels.stride()):
        if stride == 0 and labels.shape[axis] > 1:
            labels = labels.narrow(axis, 0, 1)
    return labels


def without(labels: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in sorted((a % labels.ndim for a in axes), reverse=True):
        labels = labels.select(axis, 0)
    return labels
