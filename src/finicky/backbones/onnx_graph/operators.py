"""ONNX operators as layers and tensor functions; one small function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from finicky.backbones.onnx_graph.activations import ACTIVATIONS
from finicky.backbones.onnx_graph.convert import Call
from finicky.backbones.onnx_graph.shapes import SHAPES
from finicky.backbones.wiring import Ref

Operator = Callable[[Call], Any]


def _sides(call: Call, kernel: list[int]) -> tuple[list[int], bool]:
    """Padding (top, left, bottom, right), and whether it is TensorFlow's SAME instead."""
    auto = call.get("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return [0, 0, 0, 0], True
    if auto == "SAME_LOWER" and len(kernel) == 2:
        return _same_lower(call, kernel), False
    if auto not in ("NOTSET", "VALID"):
        raise call.refusal(f"pads by {auto}")
    if len(kernel) != 2:
        raise call.refusal(f"works along {len(kernel)} axes; photos have 2")
    return call.get("pads", [0, 0, 0, 0]), False


def _same_lower(call: Call, kernel: list[int]) -> list[int]:
    """Padding whose odd pixel comes first, for photos of the side that the file is made for."""
    strides = call.get("strides", [1, 1])
    if call.reading.open_sides and set(strides) != {1}:
        raise call.refusal("pads by SAME_LOWER, with strides, photos of any size")
    if set(call.get("dilations", [1, 1])) != {1}:
        raise call.refusal("pads by SAME_LOWER with dilation")
    totals = [
        max((-(-n // s) - 1) * s + k - n, 0)
        for n, s, k in zip(call.shape()[2:], strides, kernel, strict=True)
    ]
    return [*(t - t // 2 for t in totals), *(t // 2 for t in totals)]


def _conv(call: Call) -> Ref:
    weight = call.tensor(1)
    if weight is None or weight.ndim != 4:
        raise call.refusal("is no 2-D convolution")
    pads, same = _sides(call, list(weight.shape[2:]))
    source, groups = call.ref(), call.get("group", 1)
    symmetric = pads[:2] == pads[2:]
    if not symmetric:
        source = call.draft.function(
            "aten.constant_pad_nd.default", source, [pads[1], pads[3], pads[0], pads[2]], 0.0
        )
    options: dict[str, Any] = {
        "in_channels": weight.shape[1] * groups,
        "out_channels": weight.shape[0],
        "kernel_size": list(weight.shape[2:]),
        "stride": call.get("strides", [1, 1]),
        "dilation": call.get("dilations", [1, 1]),
        "groups": groups,
        "bias": call.input(2) is not None,
    }
    if same and set(options["dilation"]) != {1}:
        raise call.refusal("pads by SAME_UPPER with dilation")
    if not same:
        options["padding"] = pads[:2] if symmetric else [0, 0]
    tensors = {"weight": weight, "bias": call.tensor(2)}
    kind = "SameConv2d" if same else "Conv2d"
    return call.draft.layer(call.name(), kind, source, tensors=tensors, **options)


def _conv_transpose(call: Call) -> Ref:
    weight = call.tensor(1)
    if weight is None or weight.ndim != 4:
        raise call.refusal("is no 2-D convolution")
    pads, same = _sides(call, list(weight.shape[2:]))
    if same or pads[:2] != pads[2:] or call.get("output_shape"):
        raise call.refusal("has padding that differs from side to side")
    groups = call.get("group", 1)
    return call.draft.layer(
        call.name(),
        "ConvTranspose2d",
        call.ref(),
        tensors={"weight": weight, "bias": call.tensor(2)},
        in_channels=weight.shape[0],
        out_channels=weight.shape[1] * groups,
        kernel_size=list(weight.shape[2:]),
        stride=call.get("strides", [1, 1]),
        padding=pads[:2],
        output_padding=call.get("output_padding", [0, 0]),
        groups=groups,
        dilation=call.get("dilations", [1, 1]),
        bias=call.input(2) is not None,
    )


def _batch_norm(call: Call) -> Ref:
    if call.get("training_mode", 0):
        raise call.refusal("is in training mode: export the network in eval mode")
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: call.tensor(i + 1) for i, name in enumerate(names)}
    kind = "BatchNorm2d" if len(call.shape()) == 4 else "BatchNorm1d"
    count = len(call.array(1))
    return call.draft.layer(
        call.name(), kind, call.ref(), tensors=tensors, num_features=count,
        eps=call.get("epsilon", 1e-5),
    )  # fmt: skip


def _pool(call: Call) -> Ref:
    mean = call.kind == "AveragePool"
    kernel = call.get("kernel_shape")
    stride = call.get("strides", [1] * len(kernel))
    pads, same = _sides(call, kernel)
    source, options = call.ref(), {"kernel_size": kernel, "stride": stride}
    if set(call.get("dilations", [1])) != {1}:
        raise call.refusal("has dilation")
    if same:
        kind = "mean" if mean else "max"
        return call.draft.layer(
            call.name(), "SamePool2d", source, kind=kind, kernel=kernel, stride=stride
        )
    ceil = bool(call.get("ceil_mode", 0))
    even = pads[:2] == pads[2:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False))
    outside = [pads[1], pads[3], pads[0], pads[2]]
    if mean and not even and not call.get("count_include_pad", 0):
        return call.draft.layer(
            call.name(), "EdgePool2d", source, kernel=kernel, stride=stride, padding=outside
        )
    if not even:
        filler = 0.0 if mean else -3.4e38
        source = call.draft.function("aten.constant_pad_nd.default", source, outside, filler)
        pads = [0, 0]
    options |= {"padding": pads[:2], "ceil_mode": ceil}
    if mean:
        options["count_include_pad"] = bool(call.get("count_include_pad", 0))
    return call.draft.layer(call.name(), "AvgPool2d" if mean else "MaxPool2d", source, **options)


def _global_pool(call: Call) -> Ref:
    kind = "AdaptiveAvgPool2d" if "Average" in call.kind else "AdaptiveMaxPool2d"
    return call.draft.layer(call.name(), kind, call.ref(), output_size=1)


def _linear(call: Call, weight: torch.Tensor, bias: torch.Tensor | None, name: str) -> Ref:
    source, weight = _flattened(call, call.ref(), weight)
    return call.draft.layer(
        name, "Linear", source, tensors={"weight": weight, "bias": bias},
        in_features=weight.shape[1], out_features=weight.shape[0], bias=bias is not None,
    )  # fmt: skip


def _flattened(call: Call, source: Ref, weight: torch.Tensor) -> tuple[Ref, torch.Tensor]:
    """A map flattened with its channels last, as TensorFlow does, flattened with them first.

    A channel's numbers then lie together, so that they can be cut with it; the weights change
    places to match.
    """
    draft = call.draft
    flat = draft.step_of(source)
    turn = draft.step_of(flat.args[0]) if flat is not None and flat.call in _FLATTENS else None
    if turn is None or turn.call != "aten.permute.default" or turn.args[1] != [0, 2, 3, 1]:
        return source, weight
    _, channels, height, width = draft.shape(turn.args[0])
    if draft.shape(source)[1:] != (channels * height * width,) or weight.shape[1] % channels:
        return source, weight
    moved = weight.reshape(-1, height, width, channels).permute(0, 3, 1, 2).flatten(1)
    return draft.function("aten.flatten.using_ints", turn.args[0], 1, -1), moved


_FLATTENS = ("Reshape", "aten.flatten.using_ints")


def _gemm(call: Call) -> Ref:
    weight, bias = call.tensor(1), call.tensor(2)
    if call.get("transA", 0) or weight is None or weight.ndim != 2:
        raise call.refusal("is no linear layer")
    if not call.get("transB", 0):
        weight = weight.T
    if bias is not None:
        bias = (call.get("beta", 1.0) * bias).reshape(-1).expand(weight.shape[0])
    return _linear(call, call.get("alpha", 1.0) * weight, bias, call.name())


def _matmul(call: Call) -> Ref:
    if isinstance(call.input(1), np.ndarray) and call.array(1).ndim == 2:
        weight = call.tensor(1)
        assert weight is not None
        return _linear(call, weight.T, torch.zeros(weight.shape[1]), call.name())
    return call.draft.function("aten.matmul.default", call.operand(0), call.operand(1))


def _arithmetic(call: Call) -> Ref:
    """Elementwise; per-channel constants become layers, which can be cut with their channels."""
    order = (0, 1) if isinstance(call.input(0), Ref) else (1, 0)
    source, other = call.inputs[order[0]], call.inputs[order[1]]
    if isinstance(source, Ref) and isinstance(other, np.ndarray):
        found = _per_channel(call, source, other, swapped=order != (0, 1))
        if found is not None:
            return found
    name = call.kind.lower()
    return call.draft.function(f"aten.{name}.Tensor", *_two(call))


def _two(call: Call) -> list[Any]:
    """Both operands as tensors or values where the first must not be a number."""
    left, right = call.operand(0), call.operand(1)
    if isinstance(left, float):
        left = call.draft.constant(torch.tensor(left))
    return [left, right]


def _per_channel(call: Call, source: Ref, other: np.ndarray, *, swapped: bool) -> Ref | None:
    shape = call.draft.shape(source)
    wanted = {4: (shape[1], 1, 1), 2: (shape[1],)}.get(len(shape)) if len(shape) > 1 else None
    trimmed = other.shape[1:] if other.ndim == len(shape) and other.shape[0] == 1 else other.shape
    if wanted is None or trimmed != wanted or shape[1] <= 4 or (swapped and call.kind == "Div"):
        return None
    values = torch.from_numpy(np.array(other, np.float32)).reshape(-1)
    ones = torch.ones_like(values)
    if call.kind in ("Add", "Sub"):
        weight = -ones if swapped and call.kind == "Sub" else ones
        bias = -values if call.kind == "Sub" and not swapped else values
        layer = call.draft.layer_of(source)
        fresh = isinstance(layer, torch.nn.Linear) and layer.bias is not None
        if call.kind == "Add" and fresh and call.used_once(1 if swapped else 0):
            # MatMul made it with a bias of zeros, for this
            with torch.no_grad():
                layer.bias.add_(values)  # type: ignore[union-attr, operator]
            return source
    else:
        weight, bias = (1 / values if call.kind == "Div" else values), torch.zeros_like(values)
    kind = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    tensors = {"weight": weight, "bias": bias}
    return call.draft.layer(
        call.name(9), kind, source, tensors=tensors, num_features=len(values), eps=0.0
    )


def _many(name: str) -> Operator:
    """Maximum, minimum and sum of any number of operands."""

    def convert(call: Call) -> Any:
        found = call.operand(0)
        for number in range(1, len(call.inputs)):
            other = call.operand(number)
            pair = [found, other]
            if name != "add.Tensor":
                pair = [
                    call.draft.constant(torch.tensor(v)) if isinstance(v, float) else v
                    for v in pair
                ]
            found = call.draft.function(f"aten.{name}", *pair)
        return found

    return convert


def _pow(call: Call) -> Ref:
    exponent = call.operand(1)
    if isinstance(exponent, float):
        return call.draft.function("aten.pow.Tensor_Scalar", call.ref(), exponent)
    return call.draft.function("aten.pow.Tensor_Tensor", call.ref(), exponent)


def _instance_norm(call: Call) -> Ref:
    count = len(call.array(1))
    tensors = {"weight": call.tensor(1), "bias": call.tensor(2)}
    return call.draft.layer(
        call.name(), "InstanceNorm2d", call.ref(), tensors=tensors, num_features=count,
        eps=call.get("epsilon", 1e-5), affine=True,
    )  # fmt: skip


def _layer_norm(call: Call) -> Ref:
    axis, shape = call.get("axis", -1), call.shape()
    tensors = {"weight": call.tensor(1), "bias": call.tensor(2)}
    return call.draft.layer(
        call.name(), "LayerNorm", call.ref(), tensors=tensors, normalized_shape=list(shape[axis:]),
        eps=call.get("epsilon", 1e-5), bias=call.input(2) is not None,
    )  # fmt: skip


def _lrn(call: Call) -> Ref:
    return call.draft.layer(
        call.name(9), "LocalResponseNorm", call.ref(), size=call.get("size"),
        alpha=call.get("alpha", 1e-4), beta=call.get("beta", 0.75), k=call.get("bias", 1.0),
    )  # fmt: skip


def _same(call: Call) -> Any:
    return call.input(0)


OPERATORS: dict[str, Operator] = (
    SHAPES
    | ACTIVATIONS
    | {
        "Add": _arithmetic,
        "AveragePool": _pool,
        "BatchNormalization": _batch_norm,
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Div": _arithmetic,
        "Dropout": _same,
        "Gemm": _gemm,
        "GlobalAveragePool": _global_pool,
        "GlobalMaxPool": _global_pool,
        "Identity": _same,
        "InstanceNormalization": _instance_norm,
        "LRN": _lrn,
        "LayerNormalization": _layer_norm,
        "MatMul": _matmul,
        "Max": _many("maximum.default"),
        "MaxPool": _pool,
        "Min": _many("minimum.default"),
        "Mul": _arithmetic,
        "Pow": _pow,
        "Sub": _arithmetic,
        "Sum": _many("add.Tensor"),
    }
)
