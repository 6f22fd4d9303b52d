"""PyTorch's operators as layers; one small function each. Others stay the functions they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from finicky.backbones.onnx_graph.shapes import reshape_plan
from finicky.backbones.program.convert import Call
from finicky.backbones.wiring import Ref


def _conv(call: Call) -> Ref:
    weight, bias = call.tensor("weight"), call.tensor("bias")
    if weight is None or weight.ndim != 4 or call.get("transposed", False):
        raise call.refusal("is no plain 2-D convolution")
    groups = call.whole("groups", 1)
    padding = call.get("padding", [0])
    return call.layer(
        "Conv2d",
        call.name(),
        tensors={"weight": weight, "bias": bias},
        in_channels=weight.shape[1] * groups,
        out_channels=weight.shape[0],
        kernel_size=list(weight.shape[2:]),
        stride=call.pair("stride", 1),
        padding=padding if isinstance(padding, str) else call.pair("padding", 0),
        dilation=call.pair("dilation", 1),
        groups=groups,
        bias=bias is not None,
    )


def _batch_norm(call: Call) -> Ref:
    if call.get("training", False):
        raise call.refusal("is in training mode: call network.eval() before torch.export.export")
    tensors = {n: call.tensor(n) for n in ("weight", "bias", "running_mean", "running_var")}
    mean = tensors["running_mean"]
    if mean is None:
        raise call.refusal("has no statistics of its own")
    affine = tensors["weight"] is not None
    kind = "BatchNorm2d" if len(call.shape()) == 4 else "BatchNorm1d"
    name = call.name() if affine else call.output
    return call.layer(
        kind, name, tensors=tensors, num_features=len(mean), eps=call.get("eps", 1e-5),
        affine=affine,
    )  # fmt: skip


def _with_statistics(convert: Callable[[Call], Ref]) -> Callable[[Call], tuple[Ref, ...]]:
    """Operators that also answer with statistics, which nothing that is not trained looks at."""
    return lambda call: (convert(call),)


def _layer_norm(call: Call) -> Ref:
    weight, bias = call.tensor("weight"), call.tensor("bias")
    shape = [int(n) for n in call.get("normalized_shape")]
    if weight is not None and list(weight.shape) != shape:
        raise call.refusal("has weights of another shape than it says")
    return call.layer(
        "LayerNorm", call.name(), tensors={"weight": weight, "bias": bias},
        normalized_shape=shape, eps=call.get("eps", 1e-5),
        elementwise_affine=weight is not None, bias=bias is not None,
    )  # fmt: skip


def _group_norm(call: Call) -> Ref:
    weight, bias = call.tensor("weight"), call.tensor("bias")
    groups = call.get("num_groups", call.get("group"))
    return call.layer(
        "GroupNorm", call.name(), tensors={"weight": weight, "bias": bias},
        num_groups=groups, num_channels=call.shape()[1], eps=call.get("eps", 1e-5),
        affine=weight is not None,
    )  # fmt: skip


def _linear_of(call: Call, weight: Tensor | None, bias: Tensor | None, name: str) -> Ref:
    if weight is None or weight.ndim != 2:
        raise call.refusal("takes no matrix of weights")
    return call.layer(
        "Linear", name, tensors={"weight": weight, "bias": bias},
        in_features=weight.shape[1], out_features=weight.shape[0], bias=bias is not None,
    )  # fmt: skip


def _linear(call: Call) -> Ref:
    return _linear_of(call, call.tensor("weight"), call.tensor("bias"), call.name())


def _addmm(call: Call) -> Any:
    matrix = call.arguments.get("mat2")
    if not isinstance(matrix, Tensor) or call.get("beta", 1) != 1 or call.get("alpha", 1) != 1:
        return call.function(call.plain)
    source, bias, name = call.arguments["mat1"], call.tensor("self"), call.name("self")
    call.arguments = {"mat1": source}
    return _linear_of(call, matrix.detach().float().T, bias, name)


def _matmul(call: Call) -> Any:
    names = [n for n in ("mat2", "other") if isinstance(call.arguments.get(n), Tensor)]
    if not names or call.arguments[names[0]].ndim != 2:
        return call.function(call.plain)
    return _linear_of(call, call.arguments[names[0]].detach().float().T, None, call.output)


def _max_pool(call: Call) -> Ref:
    kernel = call.pair("kernel_size", None)
    return call.layer(
        "MaxPool2d", kernel_size=kernel, stride=call.pair("stride", kernel),
        padding=call.pair("padding", 0), dilation=call.pair("dilation", 1),
        ceil_mode=bool(call.get("ceil_mode", False)),
    )  # fmt: skip


def _average_pool(call: Call) -> Ref:
    kernel = call.pair("kernel_size", None)
    return call.layer(
        "AvgPool2d", kernel_size=kernel, stride=call.pair("stride", kernel),
        padding=call.pair("padding", 0), ceil_mode=bool(call.get("ceil_mode", False)),
        count_include_pad=bool(call.get("count_include_pad", True)),
        divisor_override=call.get("divisor_override"),
    )  # fmt: skip


def _adaptive(kind: str) -> Callable[[Call], Ref]:
    def convert(call: Call) -> Ref:
        size = call.get("output_size")
        return call.layer(kind, output_size=size if isinstance(size, int) else list(size))

    return convert


def _prelu(call: Call) -> Ref:
    weight = call.tensor("weight")
    if weight is None:
        raise call.refusal("has no weight")
    return call.layer(
        "PReLU", call.name(), tensors={"weight": weight}, num_parameters=weight.numel()
    )


def _hardtanh(call: Call) -> Any:
    low, high = call.get("min_val", -1.0), call.get("max_val", 1.0)
    if (low, high) == (0.0, 6.0):
        return call.layer("ReLU6")
    return call.draft.function("aten.clamp.default", call.ref(), low, high, name=call.output)


def _same(call: Call) -> Any:
    """What changes where or how a value lies, and not its numbers."""
    return next(iter(call.arguments.values()))


def _dropout(call: Call) -> Any:
    if call.get("train", False):
        raise call.refusal("is in training mode: call network.eval() before torch.export.export")
    return _same(call)


def _cast(call: Call) -> Any:
    dtype = call.get("dtype")
    value = next(iter(call.arguments.values()))
    if isinstance(value, Tensor):
        return value if dtype is None else value.to(dtype)
    if dtype not in (None, torch.float32, torch.float64, torch.float16, torch.bfloat16):
        raise call.refusal("turns maps into whole numbers")
    return value  # all our values are float32


def _reshape(call: Call) -> Any:
    value = next(iter(call.arguments.values()))
    wanted = call.get("size", call.get("shape"))
    if isinstance(value, Tensor):
        return value.reshape(wanted)
    before, after = call.shape(), [int(n) for n in wanted]
    if -1 in after:
        known = 1
        for n in after:
            known *= n if n != -1 else 1
        after[after.index(-1)] = torch.Size(before).numel() // max(known, 1)
    return call.layer("Reshape", shape=reshape_plan(before, after))


def _expand(call: Call) -> Any:
    value, sizes = next(iter(call.arguments.values())), [int(n) for n in call.get("size")]
    if isinstance(value, Tensor):
        return value.expand(sizes)
    before = [1] * (len(sizes) - len(call.shape())) + list(call.shape())
    kept = [-1 if n in (-1, b) and b != 1 else n for b, n in zip(before, sizes, strict=True)]
    return call.draft.function("aten.expand.default", call.ref(), kept, name=call.output)


def _size(call: Call) -> int:
    value, axis = next(iter(call.arguments.values())), call.whole("dim", 0)
    shape = value.shape if isinstance(value, Tensor) else call.shape()
    return int(shape[axis])


OPERATORS: dict[str, Callable[[Call], Any]] = {
    "aten._adaptive_avg_pool2d.default": _adaptive("AdaptiveAvgPool2d"),
    "aten._native_batch_norm_legit_no_training.default": _with_statistics(_batch_norm),
    "aten._softmax.default": lambda call: call.draft.function(
        "aten.softmax.int", call.ref(), call.whole("dim", -1), name=call.output
    ),
    "aten._to_copy.default": _cast,
    "aten._unsafe_view.default": _reshape,
    "aten.adaptive_avg_pool2d.default": _adaptive("AdaptiveAvgPool2d"),
    "aten.adaptive_max_pool2d.default": _with_statistics(_adaptive("AdaptiveMaxPool2d")),
    "aten.addmm.default": _addmm,
    "aten.alias.default": _same,
    "aten.avg_pool2d.default": _average_pool,
    "aten.batch_norm.default": _batch_norm,
    "aten.clone.default": _same,
    "aten.contiguous.default": _same,
    "aten.conv2d.default": _conv,
    "aten.conv2d.padding": _conv,
    "aten.convolution.default": _conv,
    "aten.detach.default": _same,
    "aten.dropout.default": _dropout,
    "aten.expand.default": _expand,
    "aten.feature_dropout.default": _dropout,
    "aten.group_norm.default": _group_norm,
    "aten.hardtanh.default": _hardtanh,
    "aten.layer_norm.default": _layer_norm,
    "aten.linear.default": _linear,
    "aten.matmul.default": _matmul,
    "aten.max_pool2d.default": _max_pool,
    "aten.max_pool2d_with_indices.default": _with_statistics(_max_pool),
    "aten.mm.default": _matmul,
    "aten.native_group_norm.default": _with_statistics(_group_norm),
    "aten.native_layer_norm.default": _with_statistics(_layer_norm),
    "aten.prelu.default": _prelu,
    "aten.relu.default": lambda call: call.layer("ReLU"),
    "aten.relu6.default": lambda call: call.layer("ReLU6"),
    "aten.reshape.default": _reshape,
    "aten.sym_size.int": _size,
    "aten.to.dtype": _cast,
    "aten.to.dtype_layout": _cast,
    "aten.type_as.default": _same,
    "aten.view.default": _reshape,
}
