"""Graphs in the manner of other exporters, for the tests of the ONNX reader.

Written by hand after what each is known to write; the weights are noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
NCHW, NHWC = ["N", 3, SIDE, SIDE], ["N", SIDE, SIDE, 3]
OUT, BACK = [0, 2, 3, 1], [0, 3, 1, 2]


class Graph:
    """A graph in the making; every method returns the name of the value that it adds."""

    def __init__(self, opset: int = 13, shape: Sequence[int | str] = NCHW, kind: int = 1) -> None:
        self.opset, self.random = opset, np.random.default_rng(0)
        self.inputs = [helper.make_tensor_value_info("x", kind, list(shape))]
        self.nodes: list[Any] = []
        self.stored: list[TensorProto] = []
        self.outputs: list[Any] = []

    def __call__(self, kind: str, *inputs: str, count: int = 1, **attributes: Any) -> str:
        """Add a node; its first output."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(count)]
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names[0]

    def put(self, value: Any, *, node: bool = False) -> str:
        """A known tensor, as an initializer or the output of a Constant."""
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        if node:
            return self("Constant", value=numpy_helper.from_array(array))
        name = f"w{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(array, name))
        return name

    def noise(self, *shape: int, node: bool = False) -> str:
        fan = max(int(np.prod(shape[1:])), 1)
        return self.put(self.random.normal(0, fan**-0.5, shape), node=node)

    def conv(
        self, x: str, n: int, out: int, side: int = 3, *, bias: bool = True, **how: Any
    ) -> str:
        groups = how.get("group", 1)
        more = [self.noise(out)] if bias else []
        return self("Conv", x, self.noise(out, n // groups, side, side), *more, **how)

    def norm(self, x: str, count: int, **how: Any) -> str:
        numbers = [self.random.uniform(0.5, 2, count) for _ in range(4)]
        return self("BatchNormalization", x, *(self.put(n) for n in numbers), **how)

    def body(self, x: str = "x") -> str:
        """Two convolutions with a pool between: 16 channels at a quarter of the side."""
        x = self("Relu", self.conv(x, 3, 8, pads=[1, 1, 1, 1], strides=[2, 2]))
        x = self("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        return self("Relu", self.conv(x, 8, 16, pads=[1, 1, 1, 1]))

    def axes(self, kind: str, x: str, axes: list[int], since: int, **how: Any) -> str:
        """A node whose axes are an attribute before an opset, and an input from it on."""
        if self.opset < since:
            return self(kind, x, axes=axes, **how)
        return self(kind, x, self.put(np.array(axes)), **how)

    def dense(self, x: str, n: int, classes: int = 5) -> str:
        return self("Gemm", x, self.noise(classes, n), self.noise(classes), transB=1)

    def end(self, x: str, *, inputs_listed: bool = False, **about: Any) -> onnx.ModelProto:
        """The model that answers with a value."""
        self.outputs.insert(0, helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", "C"]))
        inputs = list(self.inputs)
        if inputs_listed:
            inputs += [
                helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in self.stored
            ]
        graph = helper.make_graph(self.nodes, "g", inputs, self.outputs, self.stored)
        domains = [helper.make_opsetid("", self.opset), *about.pop("domains", [])]
        about.setdefault("ir_version", 8 if self.opset < 21 else 10)
        return helper.make_model(graph, opset_imports=domains, **about)


# tf2onnx and keras2onnx: photos with their channels last


def tensorflow_unoptimised() -> onnx.ModelProto:
    """A Transpose to and fro around every operator, kernels turned by nodes, dense as MatMul."""
    g = Graph(13, NHWC)

    def around(kind: str, x: str, *more: str, **how: Any) -> str:
        return g("Transpose", g(kind, g("Transpose", x, perm=BACK), *more, **how), perm=OUT)

    kernel = g("Transpose", g.noise(3, 3, 3, 8), perm=[3, 2, 0, 1])
    x = around("Conv", "x", kernel, auto_pad="SAME_UPPER", strides=[2, 2])
    x = g("Relu", g("Add", x, g.noise(8)))
    x = around("MaxPool", x, auto_pad="SAME_UPPER", kernel_shape=[3, 3], strides=[2, 2])
    kernel = g("Transpose", g.noise(3, 3, 8, 16), perm=[3, 2, 0, 1])
    x = g("Relu", around("Conv", x, kernel, auto_pad="VALID"))
    x = g("ReduceMean", x, axes=[1, 2], keepdims=0)
    x = g("Add", g("MatMul", x, g.noise(16, 5)), g.noise(5))
    return g.end(g("Softmax", x, axis=-1), producer_name="tf2onnx", producer_version="1.16.1")


def tensorflow_padded() -> onnx.ModelProto:
    """ZeroPadding2D as a Pad with channels last, relu6 as Max and Min, Squeeze of a pooled map."""
    g = Graph(13, NHWC)
    x = g("Pad", "x", g.put(np.array([0, 0, 0, 0, 0, 1, 1, 0])), g.put(0.0))
    x = g.conv(g("Transpose", x, perm=BACK), 3, 8, strides=[2, 2], bias=False)
    x = g.norm(x, 8, epsilon=1e-3)
    x = g("Min", g("Max", x, g.put(0.0)), g.put(6.0))
    x = g.conv(x, 8, 8, group=8, pads=[1, 1, 1, 1])
    x = g("Clip", g.conv(x, 8, 16, 1), g.put(0.0), g.put(6.0))
    x = g.axes("Squeeze", g("GlobalAveragePool", x), [2, 3], 13)
    return g.end(g("Softmax", g.dense(x, 16), axis=1), producer_name="tf2onnx")


def tensorflow_shape_arithmetic() -> onnx.ModelProto:
    """Flatten as TensorFlow counts it: Shape, Cast, Slice, Squeeze, Concat, then Reshape."""
    g = Graph(12, NHWC)
    x = g("Transpose", g.body(g("Transpose", "x", perm=BACK)), perm=OUT)
    sizes = g("Cast", g("Shape", x), to=TensorProto.INT32)
    first = g("Slice", sizes, g.put(np.array([0])), g.put(np.array([1])), g.put(np.array([0])))
    first = g("Unsqueeze", g("Squeeze", first, axes=[0]), axes=[0])
    target = g("Concat", first, g.put(np.array([-1], np.int32)), axis=0)
    x = g("Reshape", x, g("Cast", target, to=TensorProto.INT64))
    x = g("Relu", g("Add", g("MatMul", x, g.noise(16 * 64, 12)), g.noise(12)))
    return g.end(g("Add", g("MatMul", x, g.noise(12, 5)), g.noise(5)), producer_name="tf2onnx")


def tensorflow_swish() -> onnx.ModelProto:
    """EfficientNet's: x times sigmoid(x), excitation kept as a map with channels last."""
    g = Graph(13, NHWC)
    x = g.conv(g("Transpose", "x", perm=BACK), 3, 8, auto_pad="SAME_UPPER", strides=[2, 2])
    x = g("Mul", x, g("Sigmoid", x))
    y = g("ReduceMean", x, axes=[2, 3], keepdims=1)
    y = g.conv(y, 8, 4, 1)
    y = g.conv(g("Mul", y, g("Sigmoid", y)), 4, 8, 1)
    x = g("Mul", g("Sigmoid", y), x)
    x = g("Add", g.conv(x, 8, 8, 1), x)
    x = g.axes("Squeeze", g("ReduceMean", x, axes=[2, 3], keepdims=1), [2, 3], 13)
    return g.end(g.dense(x, 8), producer_name="tf2onnx")


def tensorflow_norm_channels_last() -> onnx.ModelProto:
    """BatchNormalization left as Mul and Add over the last axis."""
    g = Graph(13, NHWC)
    x = g("Transpose", g.body(g("Transpose", "x", perm=BACK)), perm=OUT)
    x = g("Relu", g("Add", g("Mul", x, g.noise(16)), g.noise(16)))
    x = g("ReduceMean", x, axes=[1, 2], keepdims=0)
    return g.end(g("Add", g("MatMul", x, g.noise(16, 5)), g.noise(5)), producer_name="tf2onnx")


def tensorflow_depthwise_dilated() -> onnx.ModelProto:
    """SAME with dilation, counted out by the converter, not the same on all sides."""
    g = Graph(11, NHWC)
    x = g.conv(g("Transpose", "x", perm=BACK), 3, 8, pads=[2, 2, 2, 2], dilations=[2, 2])
    x = g.conv(g("Relu", x), 8, 8, group=8, pads=[1, 2, 3, 2], dilations=[2, 2])
    x = g.conv(g("LeakyRelu", x, alpha=0.2), 8, 16, 1)
    x = g("Squeeze", g("GlobalMaxPool", x), axes=[2, 3])
    return g.end(g.dense(x, 16), producer_name="tf2onnx")


def keras2onnx() -> onnx.ModelProto:
    """Opset 10: Transpose first, Identity for Dropout, Flatten of channels last, MatMul and Add."""
    g = Graph(10, NHWC)
    x = g.conv(g("Transpose", "x", perm=BACK), 3, 8, auto_pad="SAME_UPPER", strides=[1, 1])
    x = g.norm(g("Relu", x), 8, epsilon=0.001, momentum=0.99)
    x = g("AveragePool", x, kernel_shape=[4, 4], strides=[4, 4], auto_pad="VALID")
    x = g("Identity", g("HardSigmoid", x, alpha=0.2, beta=0.5))
    x = g("Flatten", g("Transpose", x, perm=OUT))
    x = g("Elu", g("Add", g("MatMul", x, g.noise(8 * 64, 12)), g.noise(12)), alpha=1.0)
    x = g("Add", g("MatMul", g("Identity", x), g.noise(12, 5)), g.noise(5))
    return g.end(g("Softmax", x), producer_name="keras2onnx", ir_version=5)


def keras2onnx_concatenated() -> onnx.ModelProto:
    """Two branches joined, Resize by scales, softsign and a thresholded ReLU."""
    g = Graph(10, NHWC)
    x = g("Relu", g.conv(g("Transpose", "x", perm=BACK), 3, 8, strides=[2, 2], pads=[1, 1, 1, 1]))
    left = g("Softsign", g.conv(x, 8, 6, 1))
    right = g("ThresholdedRelu", g.conv(x, 8, 6, auto_pad="SAME_UPPER"), alpha=0.5)
    x = g("Concat", left, right, axis=1)
    x = g("Resize", x, g.put(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    x = g("Squeeze", g("GlobalAveragePool", g.conv(x, 12, 16)), axes=[2, 3])
    return g.end(g.dense(x, 16), producer_name="keras2onnx", ir_version=5)


# paddle2onnx


def paddle() -> onnx.ModelProto:
    """Weights as Constants, sizes of -1, Squeeze with an input, HardSwish, Identity for dropout."""
    g = Graph(14, [-1, 3, -1, -1])
    kernel, kernel2 = g.noise(8, 3, 3, 3, node=True), g.noise(16, 8, 1, 1, node=True)
    x = g("Conv", "x", kernel, strides=[2, 2], pads=[1, 1, 1, 1], group=1, dilations=[1, 1])
    x = g("HardSwish", g.norm(x, 8, epsilon=1e-5, momentum=0.9))
    x = g.norm(g("Conv", x, kernel2), 16)
    scale, shift = g.put(1.0, node=True), g.put(0.0, node=True)
    x = g("Relu", g("Add", g("Mul", x, scale), shift))
    x = g.axes("Squeeze", g("GlobalAveragePool", x), [2, 3], 13)
    x = g("Identity", x)
    x = g("Add", g("MatMul", x, g.noise(16, 5, node=True)), g.noise(5, node=True))
    return g.end(g("Softmax", x, axis=-1), producer_name="PaddlePaddle")


def paddle_excited() -> onnx.ModelProto:
    """hard_sigmoid of slope 0.2, flatten as Shape, Slice, Concat; Reshape of [0, C, 1, 1]."""
    g = Graph(11, ["p2o.DynamicDimension.0", 3, SIDE, SIDE])
    x = g.body()
    y = g("Reshape", g("GlobalAveragePool", x), g.put(np.array([0, 16, 1, 1])))
    y = g.conv(g("Relu", g.conv(y, 16, 4, 1)), 4, 16, 1)
    x = g("Mul", x, g("HardSigmoid", y, alpha=0.2, beta=0.5))
    x = g("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])
    head = g("Slice", g("Shape", x), *(g.put(np.array([n])) for n in (0, 1, 0)))
    x = g("Reshape", x, g("Concat", head, g.put(np.array([-1])), axis=0))
    x = g("Add", g("MatMul", x, g.noise(16 * 16, 5)), g.noise(5))
    return g.end(x, producer_name="PaddlePaddle")


# MXNet


def mxnet() -> onnx.ModelProto:
    """Every weight listed as an input too, Dropout with its share, Sum, Flatten, Gemm."""
    g = Graph(9, [1, 3, SIDE, SIDE])
    x = g.norm("x", 3, epsilon=2e-5, momentum=0.9)
    x = g.conv(x, 3, 8, pads=[1, 1, 1, 1], strides=[2, 2], dilations=[1, 1], bias=False)
    x = g("Relu", g.norm(x, 8, epsilon=2e-5))
    x = g("Sum", x, g.conv(x, 8, 8, pads=[1, 1, 1, 1]))
    x = g("LeakyRelu", x, alpha=0.25)
    x = g("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
          count_include_pad=1)  # fmt: skip
    x = g("Clip", g.conv(x, 8, 16, 1), min=0.0, max=6.0)
    x = g("Flatten", g("GlobalAveragePool", x))
    x = g("Dropout", x, ratio=0.5)
    x = g("Gemm", x, g.noise(5, 16), g.noise(5), alpha=1.0, beta=1.0, transA=0, transB=1)
    return g.end(g("Softmax", x, axis=1), inputs_listed=True, ir_version=3)


def mxnet_prelu() -> onnx.ModelProto:
    """PRelu with a slope a channel, a Pad of attributes, LRN, a pool that rounds up."""
    g = Graph(10, ["batch", 3, SIDE, SIDE])
    x = g("Pad", "x", mode="constant", value=0.0, pads=[0, 0, 1, 1, 0, 0, 1, 1])
    x = g("PRelu", g.conv(x, 3, 8), g.noise(8, 1, 1))
    x = g("LRN", x, alpha=1e-4, beta=0.75, bias=2.0, size=5)
    x = g("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = g("Tanh", g.conv(x, 8, 16))
    x = g("Flatten", g("GlobalMaxPool", x), axis=1)
    return g.end(g.dense(x, 16), inputs_listed=True, ir_version=3)


# Core ML and ML.NET


def coreml() -> onnx.ModelProto:
    """Scale and shift of the photo first, weights as inputs, a dictionary of classes last."""
    g = Graph(9, [1, 3, SIDE, SIDE])
    x = g("Mul", "x", g.put(np.array([1 / 127.5])))
    x = g("Add", x, g.put(np.array([-1.0, -0.9, -0.8]).reshape(3, 1, 1)))
    x = g("Relu", g.conv(x, 3, 8, strides=[2, 2], auto_pad="SAME_LOWER", side=2))
    x = g("MaxPool", x, kernel_shape=[3, 3], strides=[1, 1], auto_pad="SAME_LOWER")
    x = g("Relu", g.conv(x, 8, 16, auto_pad="SAME_LOWER"))
    x = g("GlobalAveragePool", x)
    x = g("Reshape", x, g.put(np.array([1, 16])))
    x = g("Gemm", x, g.noise(16, 5), g.noise(1, 5), alpha=0.5, beta=2.0)
    x = g("Softmax", x, axis=1)
    names = [f"class {i}" for i in range(5)]
    g.nodes.append(
        helper.make_node("ZipMap", [x], ["classes"], domain="ai.onnx.ml", classlabels_strings=names)
    )
    model = g.end(x, inputs_listed=True, ir_version=3, producer_name="OnnxMLTools",
                  domains=[helper.make_opsetid("ai.onnx.ml", 1)])  # fmt: skip
    kind = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    answer = helper.make_value_info("classes", helper.make_sequence_type_proto(kind))
    del model.graph.output[:]
    model.graph.output.append(answer)
    return model


def custom_vision() -> onnx.ModelProto:
    """Constants between the weights, a softmax of one map before it is flattened."""
    g = Graph(12)
    x = g.body(g("Div", g("Sub", "x", g.put(np.full((1, 3, 1, 1), 117.0))), g.put(58.0)))
    x = g.conv(g("GlobalAveragePool", x), 16, 5, 1)
    x = g("Softmax", x, axis=1)
    return g.end(g("Flatten", x), producer_name="CNTK")


# PyTorch, old and new


def torch_view() -> onnx.ModelProto:
    """x.view(x.size(0), -1) in opset 9: Shape, Gather, Unsqueeze, Concat, Reshape."""
    g = Graph(9, ["batch", 3, SIDE, SIDE])
    x = g.body()
    size = g("Gather", g("Shape", x), g.put(np.array(0), node=True), axis=0)
    first = g("Unsqueeze", size, axes=[0])
    rest = g("Unsqueeze", g.put(np.array(-1), node=True), axes=[0])
    x = g("Reshape", x, g("Concat", first, rest, axis=0))
    return g.end(g.dense(x, 16 * 64), producer_name="pytorch")


def torch_shared() -> onnx.ModelProto:
    """Equal weights are written once and handed on by Identity; hard-swish as HardSigmoid."""
    g = Graph(13)
    kernel, ones = g.noise(8, 8, 3, 3), g.put(np.ones(8))
    x = g.conv("x", 3, 8, strides=[2, 2])
    for _ in range(2):
        x = g("Conv", x, g("Identity", kernel), pads=[1, 1, 1, 1])
        shift = g("Identity", g.put(np.zeros(8)))
        x = g("BatchNormalization", x, g("Identity", ones), shift, shift, g("Identity", ones))
        x = g("Mul", x, g("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    x = g("ReduceMean", x, axes=[-1, -2], keepdims=0)
    return g.end(g.dense(x, 8), producer_name="pytorch")


def torch_padded_pool() -> onnx.ModelProto:
    """Pad before AveragePool and a hard-swish of Add, Clip, Div and Mul, as in opset 9 and 10."""
    g = Graph(10)
    x = g.body()
    x = g("Pad", x, mode="constant", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.0)
    x = g("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2])
    gate = g("Clip", g("Add", x, g.put(3.0, node=True)), min=0.0, max=6.0)
    x = g("Div", g("Mul", x, gate), g.put(6.0, node=True))
    x = g("Flatten", g("GlobalAveragePool", x))
    return g.end(g.dense(x, 16), producer_name="pytorch")


def torch_shuffled() -> onnx.ModelProto:
    """Channel shuffle of ShuffleNet: Reshape to five axes, Transpose, Reshape back; Split."""
    g = Graph(13)
    x = g.body()
    left = g("Split", x, g.put(np.array([8, 8])), axis=1, count=2)
    right = g.nodes[-1].output[1]
    x = g("Concat", left, g("Relu", g.conv(right, 8, 8, 1)), axis=1)
    x = g("Reshape", x, g.put(np.array([-1, 2, 8, 8, 8])))
    x = g("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = g("Reshape", x, g.put(np.array([-1, 16, 8, 8])))
    x = g("ReduceMean", g.conv(x, 16, 16), axes=[2, 3], keepdims=0)
    return g.end(g.dense(x, 16), producer_name="pytorch")


def torch_dynamo() -> onnx.ModelProto:
    """Opset 18: axes as inputs, Shape from start to end, Reshape with allowzero, half a Clip."""
    g = Graph(18, ["s0", 3, SIDE, SIDE])
    x = g("Clip", g.body(), g.put(-0.1))
    x = g("Clip", x, "", g.put(1.5))
    x = g.axes("ReduceMean", x, [-1, -2], 18, keepdims=1, noop_with_empty_axes=0)
    size = g("Shape", "x", start=0, end=1)
    x = g("Reshape", x, g("Concat", size, g.put(np.array([16])), axis=0), allowzero=1)
    x = g("Dropout", x, g.put(0.5), g.put(np.array(False)), count=2)
    return g.end(g.dense(x, 16), producer_name="pytorch", producer_version="2.9")


def torch_functions() -> onnx.ModelProto:
    """A layer as a function of the file's own, as the exporters with functions write it."""
    g = Graph(18)
    x = g.body()
    g.nodes.append(helper.make_node("gate", [x], ["gated"], domain="pkg.own", name="gate"))
    x = g.axes("ReduceMean", "gated", [2, 3], 18, keepdims=0)
    own, standard = helper.make_opsetid("pkg.own", 1), helper.make_opsetid("", 18)
    model = g.end(g.dense(x, 16), producer_name="pytorch", domains=[own])
    body = [
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
    ]
    model.functions.append(helper.make_function("pkg.own", "gate", ["a"], ["b"], body, [standard]))
    return model


def two_answers() -> onnx.ModelProto:
    """A label beside the probabilities, and a norm after a dense layer."""
    g = Graph(13)
    x = g("Flatten", g("GlobalAveragePool", g.body()))
    x = g("Relu", g.norm(g.dense(x, 16, 12), 12))
    x = g("Softmax", g.dense(x, 12))
    label = g("ArgMax", x, axis=1, keepdims=0)
    g.outputs.append(helper.make_tensor_value_info(label, TensorProto.INT64, ["N"]))
    return g.end(x)


def byte_photos() -> onnx.ModelProto:
    """Bytes in: Cast, then scaled."""
    g = Graph(15, NHWC, TensorProto.UINT8)
    x = g("Cast", g("Transpose", "x", perm=BACK), to=TensorProto.FLOAT)
    x = g.body(g("Mul", x, g.put(1 / 255)))
    x = g("Flatten", g("GlobalAveragePool", x))
    return g.end(g.dense(x, 16))


def half_precision() -> onnx.ModelProto:
    """What a converter to float16 leaves: floats in and out, halves between."""
    g = Graph()
    x = g("Cast", g.body(), to=TensorProto.FLOAT16)
    kernel = g.put(g.random.normal(0, 0.2, (8, 16, 3, 3)).astype(np.float16))
    x = g("GlobalAveragePool", g("Relu", g("Conv", x, kernel)))
    return g.end(g("Flatten", g("Cast", x, to=TensorProto.FLOAT)))


def each_opset(opset: int) -> onnx.ModelProto:
    """The same network, as each opset writes it."""
    g = Graph(opset)
    x = g.norm(g.body(), 16)
    if opset >= 11:
        x = g("Clip", x, g.put(0.0), g.put(6.0))
        x = g("Pad", x, g.put(np.array([0, 0, 1, 1, 0, 0, 1, 1])), g.put(0.0))
    else:
        x = g("Clip", x, min=0.0, max=6.0)
        x = g("Pad", x, pads=[0, 0, 1, 1, 0, 0, 1, 1])
    x = g.axes("Unsqueeze", g.axes("ReduceMean", x, [2, 3], 18, keepdims=0), [2, 3], 13)
    x = g.axes("Squeeze", x, [2, 3], 13)
    x = g("Dropout", x, g.put(0.5)) if opset >= 12 else g("Dropout", x, ratio=0.5)
    return g.end(g("Softmax", g.dense(x, 16), axis=1))


CASES: dict[str, Callable[[], onnx.ModelProto]] = {
    made.__name__: made
    for made in (
        tensorflow_unoptimised, tensorflow_padded, tensorflow_shape_arithmetic, tensorflow_swish,
        tensorflow_norm_channels_last, tensorflow_depthwise_dilated, keras2onnx,
        keras2onnx_concatenated, paddle, paddle_excited, mxnet, mxnet_prelu, coreml, custom_vision,
        torch_view, torch_shared, torch_padded_pool, torch_shuffled, torch_dynamo, torch_functions,
        two_answers, byte_photos, half_precision,
    )
}  # fmt: skip


# What is refused, and why


def _strange(kind: str, *inputs: Any, opset: int = 13, **how: Any) -> onnx.ModelProto:
    g = Graph(opset)
    x = g(kind, g.body(), *(g.put(v) for v in inputs), **how)
    return g.end(g.dense(g("Flatten", g("GlobalAveragePool", x)), 16))


def _of_shape(*shape: Any, kind: int = 1) -> onnx.ModelProto:
    g = Graph(13, shape, kind)
    channels = shape[1] if isinstance(shape[1], int) else 3
    x = g("Cast", "x", to=TensorProto.FLOAT) if kind != TensorProto.FLOAT else "x"
    return g.end(g("Flatten", g("GlobalAveragePool", g.conv(x, channels, 8))))


def _two_inputs() -> onnx.ModelProto:
    g = Graph()
    g.inputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, NCHW))
    x = g("Add", "x", "z")
    return g.end(g("Flatten", g("GlobalAveragePool", g.conv(x, 3, 8))))


def _trained() -> onnx.ModelProto:
    g = Graph(15)
    numbers = [g.put(np.ones(16)) for _ in range(4)]
    x = g("BatchNormalization", g.body(), *numbers, training_mode=1, count=3)
    return g.end(g.dense(g("Flatten", g("GlobalAveragePool", x)), 16))


def _label_only() -> onnx.ModelProto:
    g = Graph()
    x = g("ArgMax", g("Flatten", g("GlobalAveragePool", g.body())), axis=1)
    model = g.end(x)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def _old() -> onnx.ModelProto:
    g = Graph(8)
    return g.end(g("Flatten", g("GlobalAveragePool", g.body())))


def _quantised() -> onnx.ModelProto:
    g = Graph()
    scale, zero = g.put(0.02), g.put(np.uint8(0))
    x = g("DequantizeLinear", g("QuantizeLinear", g.body(), scale, zero), scale, zero)
    return g.end(g.dense(g("Flatten", g("GlobalAveragePool", x)), 16))


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "quantised": (_quantised, r"QuantizeLinear \(QuantizeLinear_5\) is not known"),
    "training mode": (_trained, r"BatchNormalization_\d+\) is in training mode: export"),
    "a label only": (_label_only, "no output of floats"),
    "opset 8": (_old, "ONNX opset 8; Finicky reads 9 to"),
    "two inputs": (_two_inputs, "it has 2 inputs; a network that takes one batch"),
    "grey photos": (lambda: _of_shape("N", 1, 32, 32), r"\(N, 3, H, W\) or .* colour"),
    "no squares": (lambda: _of_shape("N", 3, 32, 48), "32 by 48 px; squares"),
    "doubles": (lambda: _of_shape("N", 3, 32, 32, kind=TensorProto.DOUBLE), "type DOUBLE"),
    "an operator that is not known": (
        lambda: _strange("LpNormalization", axis=1), r"LpNormalization \(LpNorm\w+\) is not",
    ),
    "resized by cubes": (
        lambda: _strange("Resize", np.zeros(0), np.array([1, 1, 2, 2], np.float32), mode="cubic"),
        "resizes by cubic",
    ),
}  # fmt: skip
