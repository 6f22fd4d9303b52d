"""Many cuts of one network: what belongs together is found once, each cut is then a slice.

`surgery.cut` lets torch-pruning trace the network for every cut, which takes seconds. Here its
groups are asked for once, and tensors are sliced by them. What comes out is the same, bit for bit,
and is checked as strictly: counts by the plan, and answers against the network with those channels
dark.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from finicky.backbones import Backbone, Whole, convolutions, freeze
from finicky.backbones.picks import ChannelPick, first_of
from finicky.errors import FinickyError, UnsupportedModelError
from finicky.pruning.channels import ChannelGroup
from finicky.pruning.check import (
    Removed,
    check_counts,
    check_equivalent,
    expected_counts,
    removed_channels,
    uses_of_weights,
)
from finicky.pruning.counts import Counts, count
from finicky.pruning.dependencies import goes_by_whole_groups, is_depthwise
from finicky.pruning.groups import find_groups
from finicky.pruning.surgery import check_names, cut_backbone, network_state

# What one layer loses, by side: ``out``, ``in`` or ``both``.
_Lost = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Slice:
    """The tensors that a layer keeps, by name, and the numbers that it states about itself."""

    tensors: dict[str, Tensor]
    attributes: dict[str, Any]


class Cutter:
    """Cuts one backbone at many plans.

    Networks with layers that are not known here are cut by torch-pruning, one by one.

    Args:
        backbone: Unpruned; it is not changed.
        size: Side of the trial input in px, one that the network takes; small ones are quick.
        groups: Those of ``backbone.module`` from `find_groups`, if they are at hand.
    """

    def __init__(
        self, backbone: Backbone, size: int, *, groups: Sequence[ChannelGroup] | None = None
    ) -> None:
        self._backbone = backbone
        self._parts = [m for m in (backbone.module, backbone.head) if m is not None]
        self._size = (backbone.head_size or size) if backbone.head is not None else size
        self._whole = _assemble(self._parts)
        self._prefix = "features." if len(self._parts) == 2 else ""
        self._layers = dict(self._whole.named_modules())
        self._convolutions = convolutions(backbone.module, self._size)
        if groups is None or self._prefix:
            groups = find_groups(self._whole, self._size)
        self._groups = groups
        self.unknown = self._unknown()
        self._spare = nn.Sequential(*deepcopy(self._parts)).eval()
        self._before = network_state(self._parts)
        self._uses_here = uses_of_weights(self._whole, self._size)
        self._uses: dict[int, dict[str, int]] = {}
        with torch.inference_mode():
            self._shape = self._whole(torch.zeros(1, 3, self._size, self._size)).shape

    def cut(self, keep: Mapping[str, Sequence[int]], *, verify: bool = True) -> Backbone:
        """The backbone with only the kept channels, and its head cut to match.

        Args:
            keep: For each group's root convolution, the output channels that stay, ascending.
            verify: Check counts, and answers against those of the whole network with the other
                channels dark.

        Raises:
            UsageError: A name is no convolution, or a channel number does not exist.
            UnsupportedModelError: The network cannot be cut correctly.
        """
        if self.unknown:
            return cut_backbone(self._backbone, keep, self._size)
        check_names(self._convolutions, keep)
        removed = removed_channels(self._groups, self._named(keep))
        parts = self._sliced(removed)
        if verify:
            try:
                self._check(parts, keep, removed)
            except UnsupportedModelError as error:
                self.unknown = str(error)
                return self.cut(keep)
        return self._backbone.with_module(*parts)

    def counts(self, keep: Mapping[str, Sequence[int]], size: int) -> Counts:
        """Of the features alone once they are cut, for one photo of ``size`` by ``size`` px."""
        module = self._backbone.module
        if size not in self._uses:
            self._uses[size] = uses_of_weights(module, size)
        removed = removed_channels(self._groups, self._named(keep))
        own = {(name.removeprefix(self._prefix), side): c for (name, side), c in removed.items()}
        return expected_counts(module, own, size, uses=self._uses[size])

    def check_unchanged(self) -> None:
        """Refuse to go on if the unpruned network is not what it was."""
        if network_state(self._parts) != self._before:
            raise FinickyError("cutting changed the network that was given")

    def _named(self, keep: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
        return {f"{self._prefix}{name}": channels for name, channels in keep.items()}

    def _unknown(self) -> str:
        """The first layer with channels of a group that cannot be sliced here; mostly none."""
        alone = dict(self._whole.named_parameters())
        for group in self._groups:
            for member in group.members:
                layer = self._layers.get(member.layer)
                if layer is None and member.layer in alone:
                    owner = self._layers[member.layer.rpartition(".")[0]]
                    if _slicer(owner) is None:
                        continue
                if layer is None or _slicer(layer) is None:
                    return member.layer
        return ""

    def _sliced(self, removed: Removed) -> list[nn.Module]:
        """Copies of the parts; untouched tensors are copied, the others sliced."""
        lost: defaultdict[str, dict[str, np.ndarray]] = defaultdict(dict)
        for (name, side), channels in removed.items():
            lost[name][side] = channels
        alone = dict(self._whole.named_parameters())
        memo: dict[int, Any] = {}
        attributes: dict[str, dict[str, Any]] = {}
        for name, sides in lost.items():
            if name in alone:
                _remember(memo, alone[name], _along_longest(alone[name], sides))
                continue
            layer = self._layers[name]
            slicer = _slicer(layer)
            assert slicer is not None
            found = slicer(layer, sides)
            for own, tensor in found.tensors.items():
                _remember(memo, getattr(layer, own), tensor)
            attributes[name] = found.attributes
        copies = deepcopy(self._parts, memo)
        layers = dict(_assemble(copies).named_modules())
        for name, values in attributes.items():
            for attribute, value in values.items():
                setattr(layers[name], attribute, value)
        return [freeze(part) for part in copies]

    def _check(
        self, parts: list[nn.Module], keep: Mapping[str, Sequence[int]], removed: Removed
    ) -> None:
        whole = _assemble(parts)
        try:
            with torch.inference_mode():
                answer = whole(torch.zeros(1, 3, self._size, self._size))
        except RuntimeError as error:
            raise UnsupportedModelError(
                "this network cannot be cut safely: some layer does not follow the channels that "
                f"are tied to it ({error})"
            ) from error
        if not torch.isfinite(answer).all():
            raise FinickyError("the cut network answers a black photo with NaN or infinity")
        if len(parts) == 2 and answer.shape != self._shape:
            raise FinickyError(
                f"cutting changed the network's output from {tuple(self._shape)}: its classes are "
                "tied to channels that the plan cuts"
            )
        layers = dict(parts[0].named_modules())
        for name, channels in keep.items():
            found = len(layers[name].weight)
            if found != len(channels):
                raise FinickyError(f"{name} has {found} channels, not {len(channels)}")
        expected = expected_counts(self._whole, removed, self._size, uses=self._uses_here)
        check_counts(count(whole, self._size), expected)
        try:
            check_equivalent(self._parts, parts, removed, self._size, copy=self._spare)
        finally:
            self._heal()

    def _heal(self) -> None:
        """The spare copy has dark channels after a check: light them again."""
        with torch.no_grad():
            for spare, part in zip(self._spare, self._parts, strict=True):
                own = spare.state_dict()
                for name, tensor in part.state_dict().items():
                    own[name].copy_(tensor)
        for layer in self._spare.modules():
            layer._forward_hooks.clear()


def _assemble(parts: Sequence[nn.Module]) -> nn.Module:
    return Whole(*parts) if len(parts) == 2 else parts[0]


def _remember(memo: dict[int, Any], old: Tensor | None, new: Tensor) -> None:
    """Have `deepcopy` put ``new`` where ``old`` was."""
    if old is None:
        return
    memo[id(old)] = nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new


def _stay(length: int, gone: np.ndarray | None) -> Tensor:
    left = np.arange(length) if gone is None else np.delete(np.arange(length), gone)
    return torch.from_numpy(left)


def _conv(layer: nn.Module, lost: _Lost) -> _Slice:
    assert isinstance(layer, nn.Conv2d)
    gone_out = lost.get("out", lost.get("both"))
    outputs = _stay(layer.out_channels, gone_out)
    attributes: dict[str, Any] = {"out_channels": len(outputs)}
    weight = layer.weight.detach()[outputs]
    if is_depthwise(layer):
        attributes |= {"in_channels": len(outputs), "groups": len(outputs)}
    elif goes_by_whole_groups(layer):
        width = layer.out_channels // layer.groups
        inputs = _stay(layer.in_channels, lost.get("in", lost.get("both")))
        attributes |= {"in_channels": len(inputs), "groups": len(outputs) // width}
    else:
        inputs = _stay(layer.in_channels, lost.get("in"))
        width = layer.in_channels // layer.groups
        # The same positions in each group; of one group, all of them.
        positions = torch.unique(inputs % width)
        weight = weight[:, positions] if len(positions) < width else weight
        attributes["in_channels"] = len(inputs)
    tensors = {"weight": weight}
    if layer.bias is not None:
        tensors["bias"] = layer.bias.detach()[outputs]
    return _Slice(tensors, attributes)


def _linear(layer: nn.Module, lost: _Lost) -> _Slice:
    assert isinstance(layer, nn.Linear)
    outputs = _stay(layer.out_features, lost.get("out"))
    inputs = _stay(layer.in_features, lost.get("in"))
    tensors = {"weight": layer.weight.detach()[outputs][:, inputs]}
    if layer.bias is not None:
        tensors["bias"] = layer.bias.detach()[outputs]
    return _Slice(tensors, {"out_features": len(outputs), "in_features": len(inputs)})


def _batch_norm(layer: nn.Module, lost: _Lost) -> _Slice:
    assert isinstance(layer, _BatchNorm)
    stay = _stay(layer.num_features, next(iter(lost.values())))
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {n: getattr(layer, n).detach()[stay] for n in names if getattr(layer, n) is not None}
    return _Slice(tensors, {"num_features": len(stay)})


def _layer_norm(layer: nn.Module, lost: _Lost) -> _Slice:
    assert isinstance(layer, nn.LayerNorm)
    stay = _stay(layer.normalized_shape[-1], next(iter(lost.values())))
    tensors = {
        n: getattr(layer, n).detach()[..., stay]
        for n in ("weight", "bias")
        if getattr(layer, n) is not None
    }
    return _Slice(tensors, {"normalized_shape": (*layer.normalized_shape[:-1], len(stay))})


def _pick(layer: nn.Module, lost: _Lost) -> _Slice:
    """Channels by number, numbered anew in what comes in and in what goes out."""
    assert isinstance(layer, ChannelPick)
    gone = np.sort(lost.get("in", np.empty(0, dtype=np.int64)))
    order = layer.order.numpy()[_stay(len(layer.order), lost.get("out")).numpy()]
    new = torch.from_numpy(order - np.searchsorted(gone, order))
    return _Slice({"order": new}, {"start": first_of(new)})


def _along_longest(parameter: Tensor, lost: _Lost) -> Tensor:
    """A lone parameter, such as a scale of channels: its channels lie along its longest axis."""
    axis = int(np.argmax(parameter.shape))
    stay = _stay(parameter.shape[axis], next(iter(lost.values())))
    return parameter.detach().index_select(axis, stay)


Slicer = Callable[[nn.Module, _Lost], _Slice]


def _slicer(layer: nn.Module) -> Slicer | None:
    """What slices a kind of layer; ``None`` where nothing here does."""
    kinds: tuple[tuple[type[nn.Module], Slicer], ...] = (
        (nn.Conv2d, _conv),
        (nn.Linear, _linear),
        (_BatchNorm, _batch_norm),
        (nn.LayerNorm, _layer_norm),
        (ChannelPick, _pick),
    )
    known = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked", "order"}
    if not {*layer._parameters, *layer._buffers} <= known:
        return None
    return next((slicer for kind, slicer in kinds if isinstance(layer, kind)), None)
