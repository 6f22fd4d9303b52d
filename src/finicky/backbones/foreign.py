"""What networks from other tools' files have in common, once they are wired up of our layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from finicky.backbones.backbone import (
    IMAGENET_RGB,
    PREPROCESSINGS,
    Backbone,
    Preprocessing,
    Provenance,
    freeze,
)
from finicky.backbones.blueprint import Blueprint, Built
from finicky.backbones.picks import picks_as_layers
from finicky.backbones.split import split_network
from finicky.backbones.wiring import INPUT, Ref, Stored, Wiring, assemble
from finicky.errors import DataError, UnsupportedModelError
from finicky.files import sha256_file

_SIZES = (8, 16, 24, 32, 48, 64, 75, 96, 128, 160, 192, 224)
_ARITHMETIC = ("add", "sub", "mul", "div", "rsub")


def as_backbone(
    path: Path,
    kind: str,
    module: fx.GraphModule,
    wiring: Wiring,
    *,
    size: int,
    byte_input: bool,
    preprocessing: Preprocessing | None,
    what: str,
) -> Backbone:
    """Split a network that was read from a file, and say where it came from.

    Args:
        path: The file.
        kind: Of the blueprint.
        module: ``(N, 3, H, W)`` float in.
        wiring: How to make ``module`` again.
        size: Side in px that the file was made for, or at which it was read.
        byte_input: Whether it takes bytes, 0 to 255, and scales them itself.
        preprocessing: What the user or the file says of the input.
        what: The kind of file in words.
    """
    features, head = _split(module, size)
    assumed = ""
    if preprocessing is None:
        preprocessing, assumed = _expected(wiring, byte_input, module)
        preprocessing = replace(preprocessing, origin=assumed.removeprefix(", "))
    provenance = Provenance(
        f"local file {path.name} ({what}{assumed})", "as its owner states", sha256_file(path)
    )
    blueprint = Blueprint(kind, {"size": size}, wiring.to_bytes())
    head_size = None if head is None or _any_size(module, size) else size
    return Backbone(
        path.name,
        freeze(features),
        preprocessing,
        provenance,
        _smallest(features, size),
        blueprint,
        None if head is None else freeze(head),
        head_size,
    )


def rebuild(blueprint: Blueprint) -> Built:
    """Features and head of a network that was read from a file, with fresh weights."""
    try:
        size = int(blueprint.spec["size"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the blueprint of the network is damaged: {error!r}") from error
    if not 1 <= size <= 4096:
        raise DataError(f"the blueprint of the network is damaged: size {size}")
    module = assemble(Wiring.from_bytes(blueprint.blob))
    features, head = _split(module, size)
    return freeze(features), None if head is None else freeze(head)


def _split(module: fx.GraphModule, size: int) -> Built:
    """Features and head, in which what takes channels by number can be cut."""
    example = torch.zeros(1, 3, size, size)
    # A network that is built again has its tables of channels later, with its weights.
    picks_as_layers(module, example, stored=False)
    return split_network(module, example)


def _expected(wiring: Wiring, byte_input: bool, module: nn.Module) -> tuple[Preprocessing, str]:
    """The range that a network wants, from the arithmetic at its start.

    A network that scales its input itself is given what it scales from: 0 to 255 where it divides
    by something like 58 or 255, 0 to 1 where by something like 0.23. One that does nothing of the
    kind is taken for one of ImageNet's, and this is said.
    """
    if byte_input:
        return PREPROCESSINGS["raw"], ", scales bytes itself"
    factor = _first_scale(wiring, module)
    if factor is None:
        return IMAGENET_RGB, ", no preprocessing found, ImageNet's assumed"
    name = "raw" if factor < 0.1 else "unit"
    return PREPROCESSINGS[name], f", scales its input of {name} range itself"


def _first_scale(wiring: Wiring, module: nn.Module) -> float | None:
    """By what the network multiplies its input before the first layer; None where it does not.

    Only a subtraction counts as 1: a network that subtracts 100 wants bytes.
    """
    value, factor, shifted = Ref(INPUT), 1.0, 0.0
    touched = False
    while True:
        users = [s for s in wiring.steps if value in s.args]
        if len(users) != 1:
            break
        step = users[0]
        name = step.call.split(".")[1] if step.call.startswith("aten.") else step.call
        if name in _ARITHMETIC and len(step.args) >= 2:
            other = next((a for a in step.args if a != value), None)
            size = _magnitude(other, module)
            if size is None:
                break
            touched = True
            if name == "mul":
                factor *= size
            elif name == "div":
                factor /= size
            else:
                shifted = max(shifted, size / factor)
        elif name not in ("permute", "to", "index_select", "clone", "contiguous", "slice", "flip"):
            break
        value = Ref(step.name)
    if not touched:
        return None
    return 1 / shifted if factor == 1 and shifted > 2 else factor


def _magnitude(value: Any, module: nn.Module) -> float | None:
    if isinstance(value, Stored):
        tensor = getattr(module, value.name)
        return float(tensor.abs().mean()) if isinstance(tensor, Tensor) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return abs(float(value))
    return None


def _any_size(module: nn.Module, size: int) -> bool:
    return _runs(module, size + 32) is not None


def _smallest(features: nn.Module, size: int) -> int:
    """The smallest side that leaves a map; ``size`` itself where the network takes no other.

    Raises:
        UnsupportedModelError: A wider photo does not give a wider map of the same channels.
    """
    narrow = _runs(features, size)
    if narrow is None or len(narrow) != 4 or max(narrow[2:]) < 2:
        raise UnsupportedModelError(f"its features are no map (N, C, h, w) of a photo of {size} px")
    wide = _runs(features, 2 * size)
    if wide is None:
        return size
    if wide[1] != narrow[1] or wide[2] <= narrow[2] or wide[3] <= narrow[3]:
        raise UnsupportedModelError(
            f"its features have shape {wide} for a photo twice as large as that with {narrow}: "
            "no map (N, C, h, w)"
        )
    for side in sorted({*_SIZES, size}):
        if side <= size and (shape := _runs(features, side)) and min(shape) >= 1:
            return side
    return size


def _runs(module: nn.Module, side: int) -> tuple[int, ...] | None:
    try:
        with torch.inference_mode():
            return tuple(module(torch.zeros(1, 3, side, side)).shape)
    except (RuntimeError, AssertionError, ValueError, IndexError):
        return None
