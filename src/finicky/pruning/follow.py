"""Where each channel goes: a pass through a network in which every number carries a label.

torch-pruning's graph is drawn from autograd's and loses count where channels are split, dealt out
or taken by number. Here the network runs once, and each operator does to labels what it does to
numbers: what moves numbers moves labels, arithmetic says that two channels are one, a convolution
makes new ones. What mixes channels, or is not known, leaves those that it was given as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from finicky.backbones.picks import ChannelPick
from finicky.pruning.dependencies import goes_by_whole_groups, is_depthwise
from finicky.pruning.labelled import LabelledTensors, compact, without
from finicky.pruning.labels import NOBODY

_MOVES = frozenset(
    """
    view _unsafe_view reshape permute transpose t expand unsqueeze squeeze slice select split
    split_with_sizes chunk unbind cat stack index index_select narrow alias detach clone unfold
    flip roll repeat constant_pad_nd reflection_pad2d replication_pad2d pixel_shuffle
    pixel_unshuffle channel_shuffle _reshape_alias unflatten
    """.split()  # noqa: SIM905
)
_VIEWS_OF_WEIGHTS = frozenset(
    ["t", "transpose", "permute", "detach", "alias", "expand", "view", "_unsafe_view"]
)
# Beside what PyTorch itself marks as pointwise.
_POINTWISE = frozenset(
    """
    hardtanh hardswish hardsigmoid leaky_relu prelu _prelu_kernel elu celu selu mish silu gelu
    softplus softshrink hardshrink threshold log_sigmoid relu relu6 clamp dropout native_dropout
    _to_copy where
    """.split()  # noqa: SIM905
)
_WITHIN_MAPS = frozenset(
    """
    max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d
    adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
    _upsample_bilinear2d_aa
    """.split()  # noqa: SIM905
)
_REDUCTIONS = frozenset(
    """
    mean sum amax amin prod var var_mean std max min logsumexp linalg_vector_norm norm
    """.split()  # noqa: SIM905
)
_ALONG_AN_AXIS = frozenset(["_softmax", "_log_softmax", "cumsum"])
# New numbers that only have the shape of others.
_NEW = frozenset(
    ["ones_like", "zeros_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full"]
)
_PRODUCTS = frozenset(["mm", "bmm", "addmm", "baddbmm"])
_KNOWN = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


class Follower(LabelledTensors, TorchDispatchMode):
    """Labels of everything that runs while it is on.

    Attributes:
        steps: The names of the operators that met labels.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.steps: set[str] = set()
        self._owners: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._quiet = 0
        for name, layer in module.named_modules():
            own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
            for inner, tensor in own:
                if isinstance(layer, _KNOWN):
                    self._owners[tensor] = (name, layer)
                elif tensor.numel() > 1 and not isinstance(layer, ChannelPick):
                    self._label_alone(f"{name}.{inner}" if name else inner, tensor)

    def run(self, module: nn.Module, size: int) -> Any:
        """The module's answer to a black photo, labelled."""
        photo = torch.zeros(1, 3, size, size)
        self._of[photo] = torch.zeros(1).expand(photo.shape)
        with ExitStack() as hooks, torch.no_grad():
            for name, layer in module.named_modules():
                for hook in (
                    layer.register_forward_pre_hook(self._enter(name)),
                    layer.register_forward_hook(self._leave(name)),
                ):
                    hooks.callback(hook.remove)
            with self:
                answer = module(photo)
        if not (isinstance(answer, Tensor) and answer.ndim == 4):
            for tensor in _tensors(answer):
                self._pin(tensor, "the classes come from them")
        return answer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._quiet:
            name = str(func.overloadpacket.__name__)
            self._follow(name, func, args, kwargs or {}, result)
        return result

    def _follow(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        plain = name.rstrip("_")
        is_pointwise = plain in _POINTWISE or torch.Tag.pointwise in func.tags
        if not is_pointwise and any(t in self._of for t in _tensors((args, kwargs))):
            self.steps.add(name)
        if name in _VIEWS_OF_WEIGHTS and args[0] in self._owners:
            turned = name in ("t", "transpose", "permute")
            if turned or result.shape[-2:] == args[0].shape[-2:]:
                self._owners[result] = self._owners[args[0]]
        elif name == "convolution":
            self._convolution(args, result)
        elif name in _PRODUCTS:
            self._product(args[-2:], args[:-2], result)
        elif name in _NEW or not any(t in self._of for t in _tensors((args, kwargs))):
            return
        elif "batch_norm" in name:
            self._normalise(args[0], args[1:5], result[0], axis=1)
        elif name == "native_group_norm":
            self._normalise(args[0], args[1:3], result[0], axis=1, groups=args[6])
        elif name == "native_layer_norm":
            axis = -1 if len(args[1]) == 1 else None
            self._normalise(args[0], args[2:4], result[0], axis=axis)
        elif name in _MOVES:
            self._move(func, args, kwargs, result)
        elif is_pointwise:
            self._of[result] = self._combine(_tensors((args, kwargs)), result)
        elif name in _WITHIN_MAPS:
            found = self._channels(args[0], args[0].ndim - 3)
            for tensor in _tensors(result):
                self._spread(found, tensor, tensor.ndim - 3)
        elif name in _REDUCTIONS:
            self._reduce(func, args, kwargs, result)
        elif name in _ALONG_AN_AXIS:
            self._merge(self._of[args[0]], [args[1]])
            self._of[result] = self._of[args[0]]
        elif name == "as_strided_" and result.shape == args[0].shape:
            self._of[result] = self._of[args[0]]
        else:
            for tensor in _tensors((args, kwargs)):
                self._pin(tensor, f"{self._place()} mixes them ({name})")

    # Layers with weights

    def _convolution(self, args: tuple[Any, ...], result: Tensor) -> None:
        x, weight, groups = args[0], args[1], args[8]
        name, layer = self._owners.get(weight, ("", None))
        found = self._channels(x, 1)
        if isinstance(layer, nn.Conv2d) and is_depthwise(layer):
            outputs = self._take(name, "both", found)
        elif isinstance(layer, nn.Conv2d):
            self._take(name, "in", found)
            outputs = self._made(name, layer.out_channels)
            if groups > 1:
                self._tie_groups(layer, found, outputs)
        elif groups == len(found) == result.shape[1] and not args[6]:
            # A filter without weights of its own, such as a blur.
            if weight in self._of and compact(self._of[weight]).shape[0] > 1:
                self.labels.unite(found, self._channels(weight, 0))
            outputs = found
        else:
            self._pin(x, f"{self._place()} is a convolution that cannot be cut")
            return
        self._spread(outputs, result, 1)

    def _tie_groups(self, conv: nn.Conv2d, inputs: np.ndarray, outputs: np.ndarray) -> None:
        rows = [side.reshape(conv.groups, -1) for side in (inputs, outputs)]
        if goes_by_whole_groups(conv):
            for one, other in zip(*rows, strict=True):
                self.labels.tie(np.concatenate([one, other]))
        else:
            for side in rows:
                for column in side.T:
                    self.labels.tie(column)

    def _product(self, pair: Sequence[Tensor], biases: Sequence[Any], result: Tensor) -> None:
        x, other = pair
        name, layer = self._owners.get(other, ("", None))
        if isinstance(layer, nn.Linear) and other.shape[-2] == layer.in_features:
            self._take(name, "in", self._channels(x, -1))
            self._spread(self._made(name, layer.out_features), result, -1)
            return
        for tensor in (*biases, *(t for t in pair if t in self._owners)):
            self._pin(tensor, f"{self._place()} multiplies them")
        rows = self._contract(x, -1, result)
        columns = self._contract(other, -2, result)
        if rows is not None and columns is not None:
            for tensor in pair:
                self._pin(tensor, f"{self._place()} multiplies them")
        elif rows is not None or columns is not None:
            self._of[result] = rows if rows is not None else columns

    def _contract(self, tensor: Tensor, axis: int, result: Tensor) -> Tensor | None:
        """Labels of a factor without the axis that is summed over; None if channels lie there."""
        labels = self._of.get(tensor)
        if labels is None:
            return None
        if self._varies(labels, axis):
            self._pin(tensor, f"{self._place()} multiplies them")
            return None
        return labels.select(axis, 0).unsqueeze(axis).expand(result.shape)

    def _normalise(
        self,
        x: Tensor,
        weights: Sequence[Any],
        result: Tensor,
        *,
        axis: int | None,
        groups: int = 1,
    ) -> None:
        owners = [self._owners[w] for w in weights if isinstance(w, Tensor) and w in self._owners]
        if axis is None or (axis == -1 and not owners) or (groups > 1 and not owners):
            self._pin(x, f"{self._place()} normalises them together")
            return
        found = self._channels(x, axis)
        if owners:
            self._take(owners[0][0], "both", found)
            if groups > 1:
                for row in found.reshape(groups, -1):
                    self.labels.tie(row)
        else:
            for weight in weights:
                if isinstance(weight, Tensor) and weight in self._of:
                    self.labels.unite(found, self._channels(weight, 0))
        self._spread(found, result, axis)

    # Operators without weights

    def _move(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        def swap(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(swap(v) for v in value)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                return value
            labels = self._of.get(value)
            return torch.full((), float(NOBODY)).expand(value.shape) if labels is None else labels

        name = func.overloadpacket.__name__
        if name == "constant_pad_nd":
            moved = func(swap(args[0]), args[1], float(NOBODY))
        elif name == "clone":
            moved = swap(args[0])
        elif name in ("view", "_unsafe_view"):
            moved = swap(args[0]).reshape(args[1])  # labels that repeat have other strides
        else:
            moved = func(*swap(args), **kwargs)
        for tensor, labels in zip(_tensors(result), _tensors(moved), strict=True):
            self._of[tensor] = labels

    def _combine(self, tensors: Sequence[Tensor], result: Tensor) -> Tensor:
        """Labels of a result whose every number comes from one of each operand."""
        labelled = [compact(self._of[t]) for t in tensors if t in self._of]
        first = labelled[0]
        for other in labelled[1:]:
            one, two = torch.broadcast_tensors(first, other)
            differ = one != two
            self.labels.unite(one[differ].numpy(), two[differ].numpy())
            first = torch.where(one == NOBODY, two, one)
        for tensor in tensors:
            # A bias that is added apart from its layer's product is that layer's.
            if tensor not in self._of and tensor not in self._owners and tensor.numel() > 1:
                self._combine_plain(first, tensor, result)
        return first.expand(result.shape)

    def _combine_plain(self, labels: Tensor, plain: Tensor, result: Tensor) -> None:
        """Channels that meet numbers which belong to none: they cannot be cut."""
        full = labels.expand(result.shape)
        for axis in range(-plain.ndim, 0):
            if plain.shape[axis] > 1 and self._varies(full, axis):
                self._pin_labels(full, f"{self._place()} combines them with fixed numbers")

    def _reduce(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        given = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
        axes = given.get("dim")
        axes = [axes] if isinstance(axes, int) else list(axes or range(args[0].ndim))
        merged = self._merge(self._of[args[0]], axes)
        for tensor in _tensors(result):
            self._of[tensor] = merged if given.get("keepdim") else without(merged, axes)

    # Where it is

    def _enter(self, name: str) -> Any:
        def enter(layer: nn.Module, _: Any) -> None:
            self._inside.append(name)
            self._quiet += is_one_step(layer)

        return enter

    def _leave(self, name: str) -> Any:
        def leave(layer: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:
            self._inside.pop()
            if not is_one_step(layer):
                return
            self._quiet -= 1
            if isinstance(layer, ChannelPick):
                found = self._channels(inputs[0], 1)
                self._take(name, "in", found)
                self._spread(self._take(name, "out", found[layer.order.numpy()]), result, 1)
            else:
                axis = int(getattr(layer, "channel_dim", -1))
                found = self._channels(inputs[0], axis)
                for inner in ("weight", "bias"):
                    self._take(f"{name}.{inner}", "both", found)
                self._spread(found, result, axis)

        return leave


def steps_of(module: nn.Module, size: int) -> set[str]:
    """The names of the operators, beside arithmetic, that a network sends channels through."""
    follower = Follower(module)
    follower.run(module, size)
    return follower.steps


def is_one_step(layer: nn.Module) -> bool:
    """Layers that are followed as a whole, whatever they do inside."""
    return isinstance(layer, ChannelPick) or type(layer).__name__ == "GlobalResponseNorm"


def _tensors(value: Any) -> list[Tensor]:
    """All numbers with a fraction in an argument list."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for v in value for tensor in _tensors(v)]
    return []
