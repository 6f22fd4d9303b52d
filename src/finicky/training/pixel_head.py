"""A map finer than a tile: a light head on the responses of a network's inner convolutions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from finicky.errors import DataError, UnsupportedModelError
from finicky.files import write_tensors
from finicky.importance.responses import Tap, find_taps, listening

# Beside the taps a head sees how dark each pixel is against its surroundings: a network's filters
# answer in absolute numbers, and light differs from photo to photo. On CFD darkness alone, chosen
# with the same care, was ahead of filters alone (F1 0.74 against 0.65).
PHOTO = "(photo)"
PER_STAGE = 3
_BLURS, _SURROUNDINGS = (1, 3, 5), (9, 31)


@dataclass(frozen=True)
class PixelHead:
    """``P(cell is target)`` from the responses after some convolutions, the *taps*.

    Each tap's C channels become K by a 1×1 convolution; the K are brought to the finest tap's
    resolution and summed. This order costs little and is exact: to weigh and to interpolate are
    both linear. Then ``sigmoid(output · relu(sum + bias) + output_bias)``.

    Attributes:
        taps: Names of convolutions, in forward order, after ``(photo)``: see `contrast`.
        weights: For each tap ``(K, C)`` float32.
        bias: ``(K,)``.
        output: ``(K,)``.
        output_bias: One number.
        size: Side of a tile in px.
        cells: Side of the map in cells.
    """

    taps: tuple[str, ...]
    weights: tuple[np.ndarray, ...]
    bias: np.ndarray
    output: np.ndarray
    output_bias: float
    size: int
    cells: int

    @property
    def map_px(self) -> float:
        """Side of a cell in px of the tile."""
        return self.size / self.cells

    def flattened(self, factor: float) -> Self:
        """The head whose logits are so many times smaller: its map marks the same, more softly.

        Rounding moves it less, too. Thresholds go along: see `finicky.flatness`.
        """
        output = (self.output / factor).astype(np.float32)
        return replace(self, output=output, output_bias=self.output_bias / factor)

    def save(self, path: Path) -> None:
        """Write ``pixel_head.safetensors``, whole or not at all."""
        from safetensors.numpy import save

        tensors = {f"tap{i}": weight for i, weight in enumerate(self.weights)}
        tensors |= {"bias": self.bias, "output": self.output}
        tensors["output_bias"] = np.array([self.output_bias], dtype=np.float32)
        notes = json.dumps({"size": self.size, "cells": self.cells, "taps": self.taps})
        write_tensors(path, save(tensors, metadata={"finicky": notes}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; a damaged file is a `DataError`."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                notes = json.loads((file.metadata() or {})["finicky"])
                taps = tuple(notes["taps"])
                return cls(
                    taps,
                    tuple(file.get_tensor(f"tap{i}") for i in range(len(taps))),
                    file.get_tensor("bias"),
                    file.get_tensor("output"),
                    float(file.get_tensor("output_bias")[0]),
                    int(notes["size"]),
                    int(notes["cells"]),
                )
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is no pixel head of ours: {error}") from error


class PixelMap(nn.Module):
    """A pixel head at work inside a network: listens while the network runs.

    Args:
        head: What to compute.
        module: The network whose responses it was trained on.
    """

    def __init__(self, head: PixelHead, module: nn.Module) -> None:
        super().__init__()
        self.names, self.cells = head.taps, head.cells
        found = find_taps(module, head.size)
        missing = [name for name in head.taps if name not in found and name != PHOTO]
        if missing:
            raise DataError(f"the pixel head listens to {missing[0]}, which the network lacks")
        # Not registered: the taps are modules of the network, which has them already.
        self.taps: dict[str, Tap] = {n: found[n] for n in head.taps if n in found}
        self.mix = nn.ModuleList()
        for weight in head.weights:
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
            with torch.no_grad():
                conv.weight.copy_(torch.from_numpy(weight.copy())[:, :, None, None])
            self.mix.append(conv)
        self.output = nn.Conv2d(len(head.output), 1, 1)
        self.bias = nn.Parameter(torch.from_numpy(head.bias.copy())[:, None, None])
        with torch.no_grad():
            self.output.weight.copy_(torch.from_numpy(head.output.copy())[None, :, None, None])
            self.output.bias.copy_(torch.tensor([head.output_bias]))  # type: ignore[union-attr]
        self.eval().requires_grad_(False)

    def forward(self, module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The network's last map, and ``(N, cells, cells)`` probabilities."""
        parts: dict[int, Tensor] = {}
        with listening(self.taps, self.receiver(parts)) as start:
            start()
            last = module(inputs)
        seen = contrast(inputs, self.cells) if PHOTO in self.names else None
        return last, self.finish(parts, seen)

    def receiver(self, parts: dict[int, Tensor]) -> Callable[[str, Tensor], None]:
        """What to hand each tap's response to: weighs it and adds it up, by side of its map."""
        places = dict(zip(self.names, self.mix, strict=True))

        def receive(name: str, response: Tensor) -> None:
            # Here and not later: some networks add their shortcut in place.
            part, side = places[name](response), response.shape[2]
            parts[side] = parts[side] + part if side in parts else part

        return receive

    def finish(self, parts: dict[int, Tensor], seen: Tensor | None) -> Tensor:
        """The map, from what came in and the photo's `contrast`."""
        grid = (self.cells, self.cells)
        total: Tensor = self.bias
        if seen is not None:
            total = total + dict(zip(self.names, self.mix, strict=True))[PHOTO](seen)
        for side, part in parts.items():
            if side != self.cells:
                part = F.interpolate(part, grid, mode="bilinear")
            total = total + part
        found: Tensor = self.output(torch.relu(total)).sigmoid()[:, 0]
        return found


def maps_at_once(maps: Sequence[PixelMap], module: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Each head's map, from one pass through the network."""
    parts: list[dict[int, Tensor]] = [{} for _ in maps]
    with ExitStack() as stack:
        for each, found in zip(maps, parts, strict=True):
            stack.enter_context(listening(each.taps, each.receiver(found)))()
        module(inputs)
    grids = {each.cells for each in maps if PHOTO in each.names}
    seen = {cells: contrast(inputs, cells) for cells in grids}
    return [
        each.finish(found, seen[each.cells] if PHOTO in each.names else None)
        for each, found in zip(maps, parts, strict=True)
    ]


def contrast(inputs: Tensor, cells: int) -> Tensor:
    """How much darker each cell is than what surrounds it: ``(N, 7, cells, cells)``.

    In units of the tile's own standard deviation, for three widths of the cell's side and two of
    the surroundings, in px; last, the deviation from the whole tile.

    Args:
        inputs: ``(N, 3, S, S)`` preprocessed.
        cells: Side of the grid.
    """
    grey = inputs.mean(1, keepdim=True)
    grey = grey - _mean(grey)
    # Once more: ONNX Runtime sums a tile's large numbers one after the other, and what is lost
    # showed as 1e-4 in the map of a tile with little contrast.
    grey = grey - _mean(grey)
    spread = _mean(grey * grey).sqrt() + 1e-3
    sharp = {side: _box(grey, side) for side in _BLURS}
    around = {side: _box(grey, side) for side in _SURROUNDINGS}
    found = [around[wide] - sharp[narrow] for wide in _SURROUNDINGS for narrow in _BLURS]
    maps = torch.cat([*found, -sharp[3]], 1) / spread
    step = inputs.shape[2] // cells
    if step > 1:
        maps = F.avg_pool2d(maps, step, step)
    if maps.shape[2] != cells:
        maps = F.interpolate(maps, (cells, cells), mode="bilinear")
    return maps


def _mean(maps: Tensor) -> Tensor:
    return maps.mean(3, keepdim=True).mean(2, keepdim=True)


def _box(maps: Tensor, side: int) -> Tensor:
    if side == 1:
        return maps
    # Rows, then columns: 62 numbers for 961.
    maps = F.avg_pool2d(maps, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(maps, (1, side), 1, (0, side // 2), count_include_pad=False)


def stage_taps(module: nn.Module, size: int) -> dict[str, int]:
    """What to listen to, in forward order: name → side of its map in cells.

    First the photo itself. Of convolutions with one resolution at most three, the last and others
    spread evenly before it.

    Raises:
        UnsupportedModelError: No convolution answers with a square map of at least 2 cells.
    """
    sides: dict[str, int] = {}

    def note(name: str, response: Tensor) -> None:
        if response.ndim == 4 and response.shape[2] == response.shape[3] > 1:
            sides[name] = response.shape[2]

    with listening(find_taps(module, size), note) as start, torch.inference_mode():
        start()
        module(torch.zeros(1, 3, size, size))
    chosen: set[str] = set()
    for side in set(sides.values()):
        names = [name for name, own in sides.items() if own == side]
        step = max(1, len(names) // PER_STAGE)
        chosen |= set(names[::-step][:PER_STAGE])
    if not chosen:
        raise UnsupportedModelError("no convolution of this network answers with a map")
    return {PHOTO: size} | {name: side for name, side in sides.items() if name in chosen}
