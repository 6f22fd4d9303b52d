"""A network that ends early: what comes after one of its layers is left out.

The masks often say that a network sees a defect best half way: later layers were made to tell dogs
from cats. A truncated backbone is a backbone like any other, with a blueprint of its own, so that
it is scored, cut, trained, exported and restored as all are.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from finicky.backbones.backbone import Backbone, convolutions
from finicky.backbones.blueprint import Blueprint
from finicky.backbones.blueprint import build as build_whole
from finicky.errors import DataError, UnsupportedModelError, UsageError, nearest_names

KIND = "truncated"
_POOLS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
)


def ends(module: nn.Module, size: int) -> dict[str, int]:
    """Where a network can end: its last convolution then, and how many of its parts stay.

    In forward order; the last is the network as it is. Only networks that are a sequence of parts
    can end early, and only between the parts: VGG after each convolution and its activation, ResNet
    after each stage. Pooling that follows is left out.

    Args:
        module: ``(N, 3, H, W)`` in, feature map out.
        size: Side of a trial input in px.
    """
    layers = list(convolutions(module, size))
    if type(module).forward is not nn.Sequential.forward or not layers:
        return {}
    assert isinstance(module, nn.Sequential)
    found: dict[str, int] = {}
    last = ""
    for number, (name, part) in enumerate(module.named_children(), start=1):
        inside = [n for n in layers if n == name or n.startswith(f"{name}.")]
        if inside:
            last = inside[-1]
        if last and (inside or (found.get(last) == number - 1 and not isinstance(part, _POOLS))):
            found[last] = number
    found[layers[-1]] = len(module)
    return found if _are_maps(module, found, size) else {}


def truncate(backbone: Backbone, layer: str, *, size: int = 64) -> Backbone:
    """The same backbone without what comes after a convolution and its activation.

    Its classifier no longer fits, and there is none.

    Args:
        backbone: Unpruned.
        layer: Name of the last convolution that stays; see `ends`.
        size: Side of a trial input in px.

    Raises:
        UnsupportedModelError: The network is no sequence of parts.
        UsageError: It cannot end there; the message lists where it can.
    """
    possible = ends(backbone.module, max(size, backbone.min_size))
    if not possible:
        raise UnsupportedModelError(
            f"{backbone.name} is no sequence of parts and cannot end early: leave --depth out"
        )
    if layer not in possible:
        raise UsageError(
            f"{backbone.name} cannot end after {layer!r}. {nearest_names(layer, possible)} "
            f"It can end after {', '.join(possible)}"
        )
    parts = possible[layer]
    whole = backbone.blueprint
    blueprint = None
    if whole is not None:
        spec = {"kind": whole.kind, "spec": whole.spec, "parts": parts}
        blueprint = Blueprint(KIND, spec, whole.blob)
    shorter = Backbone(
        backbone.name,
        _first(backbone.module, parts),
        backbone.preprocessing,
        backbone.provenance,
        backbone.min_size,
        blueprint,
    )
    return shorter.with_module(shorter.module)


def build(blueprint: Blueprint) -> nn.Module:
    """What `truncate` left, with fresh weights; a spec that makes no sense is a `DataError`."""
    spec = blueprint.spec
    kind, inner, parts = spec.get("kind"), spec.get("spec"), spec.get("parts")
    if not isinstance(kind, str) or kind == KIND or not isinstance(inner, dict):
        raise DataError("the blueprint of a truncated network does not say of which")
    module, _ = build_whole(Blueprint(kind, inner, blueprint.blob))
    if not isinstance(module, nn.Sequential) or not isinstance(parts, int):
        raise DataError("the blueprint of a truncated network is of one that is no sequence")
    if not 0 < parts <= len(module):
        raise DataError(f"a truncated network keeps 1 to {len(module)} parts, got {parts}")
    return _first(module, parts)


def _first(module: nn.Module, parts: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(list(module.named_children())[:parts]))


def _are_maps(module: nn.Sequential, found: dict[str, int], size: int) -> bool:
    """Whether what each end gives is a feature map."""
    x = torch.zeros(1, 3, size, size)
    wanted = set(found.values())
    with torch.inference_mode():
        for number, part in enumerate(module, start=1):
            x = part(x)
            if number in wanted and (not isinstance(x, torch.Tensor) or x.ndim != 4):
                return False
    return True
