"""ONNX operators that work on each number for itself, and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finicky.backbones.onnx_graph.convert import Call
from finicky.backbones.wiring import Ref

Operator = Callable[[Call], Any]


def _unary(name: str, *defaults: tuple[str, Any]) -> Operator:
    def convert(call: Call) -> Ref:
        values = [call.get(key, default) for key, default in defaults]
        return call.draft.function(f"aten.{name}.default", call.ref(), *values)

    return convert


def _clip(call: Call) -> Ref:
    low = call.get("min") if call.input(1) is None else float(call.array(1).reshape(-1)[0])
    high = call.get("max") if call.input(2) is None else float(call.array(2).reshape(-1)[0])
    if (low, high) == (0.0, 6.0):
        return call.draft.layer(call.name(9), "ReLU6", call.ref())
    return call.draft.function("aten.clamp.default", call.ref(), low, high)


def _hard_sigmoid(call: Call) -> Ref:
    scaled = call.draft.function("aten.mul.Tensor", call.ref(), call.get("alpha", 0.2))
    moved = call.draft.function("aten.add.Tensor", scaled, call.get("beta", 0.5))
    return call.draft.function("aten.clamp.default", moved, 0.0, 1.0)


def _softsign(call: Call) -> Ref:
    size = call.draft.function("aten.abs.default", call.ref())
    return call.draft.function(
        "aten.div.Tensor", call.ref(), call.draft.function("aten.add.Tensor", size, 1.0)
    )


def _thresholded(call: Call) -> Ref:
    above = call.draft.function("aten.gt.Scalar", call.ref(), call.get("alpha", 1.0))
    return call.draft.function("aten.mul.Tensor", call.ref(), above)


def _prelu(call: Call) -> Ref:
    slope = call.tensor(1)
    assert slope is not None
    shape = call.shape()
    if slope.numel() not in (1, shape[1]) or slope.numel() != max(slope.shape, default=1):
        raise call.refusal("has a slope for more than channels")
    tensors = {"weight": slope.reshape(-1)}
    return call.draft.layer(
        call.name(), "PReLU", call.ref(), tensors=tensors, num_parameters=slope.numel()
    )


def _gelu(call: Call) -> Ref:
    how = call.get("approximate", "none")
    return call.draft.function("aten.gelu.default", call.ref(), approximate=how)


def _relu(call: Call) -> Ref:
    return call.draft.layer(call.name(9), "ReLU", call.ref())


def _softmax(call: Call) -> Ref:
    kind = "log_softmax" if call.kind == "LogSoftmax" else "softmax"
    shape = call.shape()
    axis = call.get("axis", 1 if call.opset < 13 else -1)
    if call.opset < 13 and any(n != 1 for n in shape[axis % len(shape) + 1 :]):
        raise call.refusal("runs over several axes at once")
    return call.draft.function(f"aten.{kind}.int", call.ref(), axis)


ACTIVATIONS: dict[str, Operator] = {
    "Abs": _unary("abs"),
    "Celu": _unary("celu", ("alpha", 1.0)),
    "Clip": _clip,
    "Elu": _unary("elu", ("alpha", 1.0)),
    "Erf": _unary("erf"),
    "Exp": _unary("exp"),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary("hardswish"),
    "LeakyRelu": _unary("leaky_relu", ("alpha", 0.01)),
    "Log": _unary("log"),
    "LogSoftmax": _softmax,
    "Mish": _unary("mish"),
    "Neg": _unary("neg"),
    "PRelu": _prelu,
    "Reciprocal": _unary("reciprocal"),
    "Relu": _relu,
    "Selu": _unary("selu"),
    "Sigmoid": _unary("sigmoid"),
    "Softmax": _softmax,
    "Softplus": _unary("softplus"),
    "Softsign": _softsign,
    "Sqrt": _unary("sqrt"),
    "Tanh": _unary("tanh"),
    "ThresholdedRelu": _thresholded,
}
