"""What a network is made of, and what of it could be cut: for people, before anything is cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finicky.backbones import Backbone, Preprocessing, load_backbone
from finicky.errors import MissingDependencyError, UnsupportedModelError, UsageError
from finicky.pruning.channels import ChannelGroup
from finicky.pruning.counts import Counts, count
from finicky.pruning.groups import find_groups

_USUAL_TILE = 224


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    ``shape``: of what it makes of one photo, without the batch. ``macs``: multiply-accumulates of
    convolutions and linear layers; others are not counted. ``group``: number of the group that
    its output channels belong to, from 1; None where they are never cut. ``part``: ``features`` or
    ``head``.
    """

    name: str
    kind: str
    part: str
    shape: tuple[int, ...]
    params: int
    macs: int
    group: int | None


@dataclass(frozen=True)
class GroupRow:
    """Channels that are cut together: of which convolutions, in how many decisions.

    ``whole``: why none of them can go; empty where they can.
    """

    number: int
    channels: int
    decisions: int
    convolutions: tuple[str, ...]
    whole: str


@dataclass(frozen=True)
class BackboneDescription:
    """A network on paper.

    Attributes:
        name: As it was asked for.
        source: Where its weights came from.
        license: Of the weights.
        sha256: Of the file, if there is one.
        preprocessing: What it expects of photos, and in its ``origin`` who says so.
        tile: Side in px of the photo that shapes and MACs are given for.
        min_size: The smallest side in px that it takes.
        head_size: The only side in px that its own classifier takes; None: any.
        classes: How many outputs its own classifier has; None: it brings none.
        features: Counts of what can be cut: the network up to its last map.
        whole: Counts with its own classifier; None where it brings none that runs at ``tile``.
        layers: In the order in which they run.
        groups: What could be cut, in the order in which it runs.
        refusal: Why nothing can be cut at all; empty where something can.
    """

    name: str
    source: str
    license: str
    sha256: str | None
    preprocessing: Preprocessing
    tile: int
    min_size: int
    head_size: int | None
    classes: int | None
    features: Counts
    whole: Counts | None
    layers: tuple[LayerRow, ...]
    groups: tuple[GroupRow, ...]
    refusal: str

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return asdict(self)

    @property
    def never_cut(self) -> dict[str, str]:
        """Layers that have channels of their own and keep them all, with the reason."""
        reasons = {name: g.whole for g in self.groups if g.whole for name in g.convolutions}
        for layer in self.layers:
            if layer.part == "head" and layer.macs:
                reasons[layer.name] = "only the inputs of a classifier follow a cut"
        return reasons


def describe_backbone(
    backbone: str | Path | Backbone,
    *,
    tile: int | None = None,
    weights: str | Path | None = None,
    arch: str | None = None,
    preprocessing: str | Preprocessing | None = None,
) -> BackboneDescription:
    """Layers, shapes, counts, preprocessing, and what of a network could be cut.

    Args:
        backbone: A name or file, as `load_backbone` takes it, a folder that ``finicky prune``
            wrote, or a `Backbone`. A name whose weights are not at hand is described with random
            ones.
        tile: Side in px to count for; None: what its classifier takes, or 224.
        weights: Where the backbone's weights come from; see `load_backbone`.
        arch: For a file of weights, their architecture.
        preprocessing: What the network expects of photos, where its file does not say.

    Raises:
        UsageError: Unknown name, missing file, or the network takes no photo of ``tile`` px.
        DataError: The file is damaged or hostile.
        UnsupportedModelError: It is no network that Finicky can use, and why.
    """
    if isinstance(backbone, Backbone):
        found = backbone
    else:
        found = _load(backbone, weights, arch, preprocessing)
    side = tile or found.head_size or max(_USUAL_TILE, found.min_size)
    found.check_size(side)
    refusal, groups = "", list[ChannelGroup]()
    try:
        groups = find_groups(found.module, side)
    except UnsupportedModelError as error:
        refusal = str(error)
    rows, runs = _layers(found, side, groups)
    name = str(backbone) if isinstance(backbone, (str, Path)) else found.name
    return BackboneDescription(
        name,
        found.provenance.source,
        found.provenance.license,
        found.provenance.sha256,
        found.preprocessing,
        side,
        found.min_size,
        found.head_size,
        _classes(found),
        count(found.module, side),
        count(found.whole, side) if found.head is not None and runs else None,
        tuple(rows),
        tuple(_group_row(number, group) for number, group in enumerate(groups, 1)),
        refusal,
    )


def _load(
    name: str | Path,
    weights: str | Path | None,
    arch: str | None,
    preprocessing: str | Preprocessing | None,
) -> Backbone:
    try:
        return load_backbone(name, weights=weights, arch=arch, preprocessing=preprocessing)
    except (UsageError, MissingDependencyError) as error:
        if weights is not None or arch is not None or Path(name).exists():
            raise
        # A name without its weights: they do not matter for what is asked here. A name that is
        # not known, or whose library is missing, fails again.
        try:
            return load_backbone(name, weights="random", preprocessing=preprocessing)
        except (UsageError, MissingDependencyError):
            raise error from None


def _layers(
    backbone: Backbone, side: int, groups: list[ChannelGroup]
) -> tuple[list[LayerRow], bool]:
    """Every innermost layer that runs; and whether the head does, on photos of that side."""
    numbers = {m.layer: i for i, g in enumerate(groups, 1) for m in g.members if m.side != "in"}
    numbers |= {p.name: i for i, g in enumerate(groups, 1) for p in g.producers}
    rows: list[LayerRow] = []
    with torch.inference_mode(), _watched(backbone.module, "features", rows, numbers):
        maps = backbone.module(torch.zeros(1, 3, side, side))
    if backbone.head is None:
        return rows, False
    before = len(rows)
    with suppress(RuntimeError, ValueError), torch.inference_mode():
        with _watched(backbone.head, "head", rows, {}):
            backbone.head(maps)
        return rows, True
    return rows[:before], False


@contextmanager
def _watched(
    module: nn.Module, part: str, rows: list[LayerRow], numbers: dict[str, int]
) -> Iterator[None]:
    names = {m: n for n, m in module.named_modules() if next(m.children(), None) is None}
    prefix = "head." if part == "head" else ""
    seen: set[nn.Module] = set()

    def note(layer: nn.Module, _: object, output: object) -> None:
        if not isinstance(output, Tensor):
            return
        params = 0 if layer in seen else sum(p.numel() for p in layer.parameters())
        seen.add(layer)
        rows.append(
            LayerRow(
                prefix + names[layer],
                _kind(layer),
                part,
                tuple(output.shape[1:]),
                params,
                _macs(layer, output),
                numbers.get(names[layer]),
            )
        )

    hooks = [layer.register_forward_hook(note) for layer in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _kind(layer: nn.Module) -> str:
    """The layer's class; of a convolution also kernel, stride and how it is grouped."""
    kind = type(layer).__name__
    if not isinstance(layer, nn.Conv2d):
        return kind
    height, width = layer.kernel_size
    stride = "" if max(layer.stride) == 1 else f" /{layer.stride[0]}"
    if layer.groups == 1:
        groups = ""
    elif layer.groups == layer.in_channels:
        groups = " depthwise"
    else:
        groups = f" in {layer.groups} groups"
    return f"{kind} {height}x{width}{stride}{groups}"


def _macs(layer: nn.Module, output: Tensor) -> int:
    if isinstance(layer, nn.Conv2d):
        return output.numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    return output.numel() * layer.in_features if isinstance(layer, nn.Linear) else 0


def _classes(backbone: Backbone) -> int | None:
    if backbone.head is None:
        return None
    side = backbone.head_size or max(_USUAL_TILE, backbone.min_size)
    with torch.inference_mode():
        return int(backbone.whole(torch.zeros(1, 3, side, side)).shape[-1])


def _group_row(number: int, group: ChannelGroup) -> GroupRow:
    names = tuple(p.name for p in group.producers)
    decisions = 1 if group.whole else int(group.units.max()) + 1
    return GroupRow(number, group.size, decisions, names, group.whole)
