"""Our list of layers to a `torch.fx.GraphModule` of ordinary modules, channels first."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn

from finicky.backbones.alexnet import SameConv2d
from finicky.backbones.keras import layers as own
from finicky.backbones.keras.recipe import Entry, Recipe
from finicky.errors import DataError, UnsupportedModelError


@dataclass
class Assembly:
    """A built network.

    ``orders[name]`` is, where it is not the identity, the order in which PyTorch has the features
    that a layer takes: its feature i is Keras' feature ``order[i]``. Flattening makes the two
    differ, because Keras' channels come last.
    """

    graph: fx.GraphModule
    orders: dict[str, np.ndarray]


@dataclass
class _Work:
    """What making one layer may look at, and where it leaves the order of its result."""

    entry: Entry
    inputs: list[Tensor]
    orders: list[np.ndarray | None]
    recipe: Recipe
    order: np.ndarray | None = None

    @property
    def x(self) -> Tensor:
        return self.inputs[0]

    def axis(self, axis: int) -> int:
        """A Keras axis of the first input, channels first."""
        rank = self.x.ndim
        axis = axis % rank if -rank <= axis < rank else 9
        if rank == 4 and not self.recipe.channels_first:
            axis = {0: 0, 1: 2, 2: 3, 3: 1}.get(axis, 9)
        if axis == 9 or axis == 0:
            raise self.refused(f"axis {self.entry.option('axis')} is not supported")
        return axis

    def refused(self, why: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"layer {self.entry.name} ({self.entry.kind}): {why}")


def assemble(recipe: Recipe, device: str = "cpu") -> Assembly:
    """Build all layers with fresh weights, in eval mode.

    Args:
        recipe: Our list.
        device: ``meta`` to learn the shapes of all weights without allocating any.

    Raises:
        DataError: The list makes no sense.
        UnsupportedModelError: A layer cannot be built; the message names it.
    """
    graph, root = fx.Graph(), nn.Module()
    orders: dict[str, np.ndarray] = {}
    results: list[tuple[fx.Node, Tensor, np.ndarray | None]] = []
    for entry in recipe.entries:
        if not results:
            shape = torch.empty(1, 3, *recipe.size, device="meta")
            results.append((graph.placeholder("input"), shape, None))
            continue
        if not entry.inputs or not all(0 <= i < len(results) for i in entry.inputs):
            raise DataError(f"layer {entry.name} takes results that are not there")
        given = [results[i] for i in entry.inputs]
        name = module_name(entry.name)
        if name in dict(root.named_children()):
            raise DataError(f"two layers are named {name}")
        work = _Work(entry, [g[1] for g in given], [g[2] for g in given], recipe)
        module, shape = _make(work, device)
        root.add_module(name, module)
        if work.orders[0] is not None:
            orders[entry.name] = work.orders[0]
        node = graph.call_module(name, tuple(g[0] for g in given))
        node.meta["shape"] = tuple(shape.shape)
        results.append((node, shape, work.order))
    output, _, order = results[recipe.output]
    if order is not None:
        root.add_module("keras_order", own.Reorder(np.argsort(order).tolist()))
        output = graph.call_module("keras_order", (output,))
    graph.output(output)
    return Assembly(fx.GraphModule(root, graph).eval(), orders)


def module_name(name: str) -> str:
    """What a layer is called in the graph.

    torch.fx writes Python source with these names and runs it: nothing but a plain word may pass.
    """
    if not isinstance(name, str) or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,250}", name) is None:
        raise DataError(f"{str(name)[:80]!r} is no name of a layer")
    taken = keyword.iskeyword(name) or hasattr(fx.GraphModule, name) or name == "training"
    return f"{name}_layer" if taken else name


def _make(work: _Work, device: str) -> tuple[nn.Module, Tensor]:
    """One module and the shape of its result, worked out on the meta device."""
    entry = work.entry
    if entry.kind not in MAKERS:
        raise DataError(f"layer {entry.name} is of unknown kind {entry.kind!r}: update Finicky")
    try:
        with torch.device(device):
            module = MAKERS[entry.kind](work).eval()
        trial = module if device == "meta" else deepcopy(module).to("meta")
        with torch.inference_mode():
            shape = trial(*work.inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, OverflowError) as error:
        if isinstance(error, (DataError, UnsupportedModelError)):
            raise
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason"
        raise UnsupportedModelError(
            f"layer {entry.name} ({entry.kind}) does not fit its input "
            f"{[tuple(x.shape[1:]) for x in work.inputs]}: {reason}"
        ) from error
    if 0 in shape.shape:
        raise UnsupportedModelError(
            f"layer {entry.name} ({entry.kind}) leaves nothing of its input"
        )
    return module, shape


def _conv(work: _Work) -> nn.Module:
    groups, filters = work.entry.option("groups"), work.entry.option("filters")
    return _convolution(work, filters, groups)


def _depthwise(work: _Work) -> nn.Module:
    channels = work.x.shape[1]
    return _convolution(work, channels * work.entry.option("multiplier"), channels)


def _convolution(work: _Work, filters: int, groups: int) -> nn.Module:
    if work.x.ndim != 4:
        raise work.refused("it needs a map, not a vector")
    option = work.entry.option
    kernel, strides, dilation = option("kernel"), option("strides"), option("dilation")
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    same = option("same")
    # Stride 1 and an odd kernel: PyTorch's own padding is the same, whatever the input's size.
    plain = not same or (max(strides) == 1 and all(r % 2 == 0 for r in reach))
    make = nn.Conv2d if plain else SameConv2d
    return make(
        work.x.shape[1],
        filters,
        tuple(kernel),
        stride=tuple(strides),
        padding=tuple(r // 2 for r in reach) if same and plain else 0,
        dilation=tuple(dilation),
        groups=groups,
        bias=option("bias"),
    )


def _dense(work: _Work) -> nn.Module:
    """On a map, Keras works along the channels: a convolution of one pixel."""
    units, bias = work.entry.option("units"), work.entry.option("bias")
    if work.x.ndim == 4:
        if work.recipe.channels_first:
            raise work.refused("on a channels_first map it would work along the rows")
        return nn.Conv2d(work.x.shape[1], units, 1, bias=bias)
    return nn.Linear(work.x.shape[1], units, bias=bias)


def _batch_norm(work: _Work) -> nn.Module:
    _channels_only(work)
    work.order = work.orders[0]
    make = nn.BatchNorm2d if work.x.ndim == 4 else nn.BatchNorm1d
    return make(work.x.shape[1], eps=work.entry.option("epsilon"), momentum=0.01)


def _layer_norm(work: _Work) -> nn.Module:
    _channels_only(work)
    work.order = work.orders[0]
    make = own.LayerNorm2d if work.x.ndim == 4 else nn.LayerNorm
    return make(work.x.shape[1], eps=work.entry.option("epsilon"))


def _channels_only(work: _Work) -> None:
    if work.axis(work.entry.option("axis")) != 1:
        raise work.refused(f"axis {work.entry.option('axis')} is not the channels'")


def _pool(plain: Callable[..., nn.Module], same: Callable[..., nn.Module]) -> Maker:
    def make(work: _Work) -> nn.Module:
        if work.x.ndim != 4:
            raise work.refused("it needs a map, not a vector")
        chosen = same if work.entry.option("same") else plain
        return chosen(tuple(work.entry.option("kernel")), tuple(work.entry.option("strides")))

    return make


def _pad(work: _Work) -> nn.Module:
    top, bottom, left, right = work.entry.option("sides")
    return nn.ZeroPad2d((left, right, top, bottom))


def _upsample(work: _Work) -> nn.Module:
    size = tuple(float(n) for n in work.entry.option("size"))
    if work.entry.option("mode") == "nearest":
        return nn.Upsample(scale_factor=size)
    return nn.Upsample(scale_factor=size, mode="bilinear", align_corners=False)


def _flatten(work: _Work) -> nn.Module:
    return _flattened(work, plain=work.entry.option("plain"))


def _flattened(work: _Work, plain: bool = False) -> nn.Module:
    if work.x.ndim == 2:
        work.order = work.orders[0]
    elif not plain and not work.recipe.channels_first:
        _, channels, height, width = work.x.shape
        if height * width > 1:
            numbers = np.arange(height * width * channels).reshape(height, width, channels)
            work.order = numbers.transpose(2, 0, 1).ravel()
    return nn.Flatten(1)


def _reshape(work: _Work) -> nn.Module:
    """The few reshapings that move nothing: vector to one pixel and back, or to what it was."""
    given = list(work.x.shape[1:])
    if work.x.ndim == 4 and not work.recipe.channels_first:
        given = [*given[1:], given[0]]
    target = list(work.entry.option("shape"))
    count = int(np.prod(given))
    if target.count(-1) == 1:
        target[target.index(-1)] = count // max(int(-np.prod(target)), 1)
    pixel = [given[0], 1, 1] if work.recipe.channels_first else [1, 1, given[0]]
    if target == given:
        work.order = work.orders[0]
        return nn.Identity()
    if work.x.ndim == 2 and target == pixel and work.orders[0] is None:
        return own.ToMap()
    if work.x.ndim == 4 and target == [count]:
        return _flattened(work)
    raise work.refused(f"{given} to {target} is not supported, only between vectors and pixels")


def _activation(make: Callable[[Entry], nn.Module]) -> Maker:
    def made(work: _Work) -> nn.Module:
        work.order = work.orders[0]
        return make(work.entry)

    return made


def _softmax(work: _Work) -> nn.Module:
    work.order = work.orders[0]
    return nn.Softmax(work.axis(work.entry.option("axis")))


def _prelu(work: _Work) -> nn.Module:
    work.order = work.orders[0]
    return nn.PReLU(work.x.shape[1])


def _merge(work: _Work) -> nn.Module:
    first = work.orders[0]
    stated = [None if o is None else o.tolist() for o in work.orders]
    if any(o != stated[0] for o in stated):
        raise work.refused("it mixes flattened maps and other vectors")
    work.order = first
    return own.Merge(work.entry.kind)


def _concatenate(work: _Work) -> nn.Module:
    axis = work.axis(work.entry.option("axis"))
    if any(o is not None for o in work.orders):
        starts = np.cumsum([0, *(x.shape[1] for x in work.inputs)])
        parts = [
            start + (np.arange(x.shape[1]) if o is None else o)
            for start, x, o in zip(starts, work.inputs, work.orders, strict=False)
        ]
        work.order = np.concatenate(parts)
    return own.Concatenate(axis)


def _affine(work: _Work) -> nn.Module:
    scale, offset = work.entry.option("scale"), work.entry.option("offset")
    work.order = work.orders[0]
    for value in (scale, offset):
        if isinstance(value, list) and (work.recipe.channels_first or work.order is not None):
            raise work.refused("one number a channel is supported for channels_last maps only")
        if isinstance(value, list) and len(value) != work.x.shape[1]:
            raise work.refused(f"{len(value)} numbers for {work.x.shape[1]} channels")
    return own.Affine(scale, offset)


def _normalize(work: _Work) -> nn.Module:
    _channels_only(work)
    if work.orders[0] is not None:
        raise work.refused("it is not supported after flattening")
    options = work.entry.options or {}
    if "mean" not in options:
        return own.Normalize(work.x.shape[1])
    mean, variance = np.asarray(options["mean"]), np.asarray(options["variance"])
    scale, offset = np.broadcast_arrays(1 / np.maximum(np.sqrt(variance), 1e-7), mean)
    return own.Affine(_plain(scale), _plain(-offset * scale))


def _plain(value: np.ndarray) -> float | list[float]:
    return value.tolist()


def _layer_scale(work: _Work) -> nn.Module:
    """A number a channel: a depthwise convolution of one pixel, which can be cut."""
    if work.x.ndim != 4:
        raise work.refused("it needs a map, not a vector")
    channels = work.x.shape[1]
    return nn.Conv2d(channels, channels, 1, groups=channels, bias=False)


Maker = Callable[[_Work], nn.Module]

MAKERS: dict[str, Maker] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "max_pool": _pool(nn.MaxPool2d, own.SameMaxPool2d),
    "average_pool": _pool(nn.AvgPool2d, own.SameAvgPool2d),
    "global_average": lambda work: nn.AdaptiveAvgPool2d(1),  # noqa: ARG005
    "global_max": lambda work: own.GlobalMax(),  # noqa: ARG005
    "pad": _pad,
    "crop": lambda work: own.Crop2d(work.entry.option("sides")),
    "upsample": _upsample,
    "same_size": lambda work: own.SameSize(work.entry.option("size")),
    "flatten": _flatten,
    "reshape": _reshape,
    "prelu": _prelu,
    "softmax": _softmax,
    "concatenate": _concatenate,
    "affine": _affine,
    "normalize": _normalize,
    "layer_scale": _layer_scale,
    "relu": _activation(lambda e: nn.ReLU()),  # noqa: ARG005
    "relu6": _activation(lambda e: nn.ReLU6()),  # noqa: ARG005
    "sigmoid": _activation(lambda e: nn.Sigmoid()),  # noqa: ARG005
    "tanh": _activation(lambda e: nn.Tanh()),  # noqa: ARG005
    "elu": _activation(lambda e: nn.ELU(e.option("alpha"))),
    "selu": _activation(lambda e: nn.SELU()),  # noqa: ARG005
    "silu": _activation(lambda e: nn.SiLU()),  # noqa: ARG005
    "gelu": _activation(lambda e: nn.GELU("tanh" if e.option("approximate") else "none")),
    "hardswish": _activation(lambda e: nn.Hardswish()),  # noqa: ARG005
    "hardsigmoid": _activation(lambda e: nn.Hardsigmoid()),  # noqa: ARG005
    "hard_sigmoid_2": _activation(lambda e: own.HardSigmoid2()),  # noqa: ARG005
    "mish": _activation(lambda e: nn.Mish()),  # noqa: ARG005
    "softplus": _activation(lambda e: nn.Softplus()),  # noqa: ARG005
    "softsign": _activation(lambda e: nn.Softsign()),  # noqa: ARG005
    "exponential": _activation(lambda e: own.Exponential()),  # noqa: ARG005
    "leaky_relu": _activation(lambda e: nn.LeakyReLU(e.option("slope"))),
    "clipped_relu": _activation(
        lambda e: own.ClippedReLU(e.option("slope"), e.option("threshold"), e.option("most"))
    ),
    **dict.fromkeys(own.MERGES, _merge),
}
