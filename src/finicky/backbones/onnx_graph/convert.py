"""An ONNX graph, node by node, as a `Draft` of our layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx

from finicky.backbones.onnx_graph.fold import FOLDABLE, fold
from finicky.backbones.onnx_graph.layout import ELEMENTWISE, turned
from finicky.backbones.wiring import INPUT, Draft, Ref, Stored, Wiring
from finicky.errors import UnsupportedModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

Value = Ref | np.ndarray | None
_FLOATS = (np.float16, np.float64)
_AMISS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, StopIteration),
    *(TypeError, ValueError),
)
# Where a file leaves the side of its photos open.
_SIZE = 224


@dataclass(frozen=True)
class Converted:
    """A file's network as layers, and what is needed to compare the two.

    ``compared`` ends before the last softmax, whose saturation would hide differences;
    ``compared_name`` is that value in ``content``, the file with this value as an output.
    """

    module: fx.GraphModule
    wiring: Wiring
    compared: fx.GraphModule
    compared_name: str
    content: bytes
    input_name: str
    idle_inputs: dict[str, list[int]]
    size: int
    batch: int
    channels_last: bool
    byte_input: bool
    opset: int
    producer: str
    metadata: dict[str, str]


def convert(model: ModelProto) -> Converted:
    """Rewrite a checked model; see `read_onnx`.

    Raises:
        UnsupportedModelError: It has an operator, input or type that Finicky does not know.
    """
    from onnx import TensorProto
    from onnx.inliner import inline_local_functions

    if model.functions:
        model = inline_local_functions(model)
    graph = model.graph
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    source, shape, channels_last, batch = _photo_input(graph)
    byte_input = source.type.tensor_type.elem_type == TensorProto.UINT8
    size = shape[1] if channels_last else shape[2]
    draft = Draft((batch, 3, size, size))
    first: Ref = Ref(INPUT)
    if channels_last:
        first = draft.function("aten.permute.default", first, [0, 2, 3, 1])
    reading = Reading(draft, opset, _uses(graph))
    reading.open_sides = size not in [d.dim_value for d in source.type.tensor_type.shape.dim]
    reading.values[source.name] = first
    reading.load(graph)
    output = _answer(graph, reading)
    before = _before_softmax(graph, output)
    for node in _needed(graph, {output, before}):
        reading.node(node)
    answer, compared = reading.values.get(output), reading.values.get(before)
    if not isinstance(answer, Ref) or not isinstance(compared, Ref):
        raise UnsupportedModelError(f"its output {output} does not depend on the photo")
    module, wiring = draft.finish(answer)
    content = _with_output(model, before)
    producer = f", written by {model.producer_name}" if model.producer_name else ""
    return Converted(
        module,
        wiring,
        draft.finish(compared)[0],
        before,
        content,
        source.name,
        _idle_inputs(graph),
        size,
        batch,
        channels_last,
        byte_input,
        opset,
        producer[:80],
        {entry.key: entry.value for entry in model.metadata_props},
    )


class Reading:
    """The state of a conversion: what each ONNX value is by now."""

    def __init__(self, draft: Draft, opset: int, uses: Mapping[str, int]) -> None:
        self.draft = draft
        self.opset = opset
        self.uses = uses
        self.open_sides = False  # whether the file takes photos of any size
        self.values: dict[str, Value] = {"": None}
        self.names: dict[int, str] = {}

    def load(self, graph: GraphProto) -> None:
        """Take over the initializers."""
        from onnx import numpy_helper

        for tensor in graph.initializer:
            array = _plain(numpy_helper.to_array(tensor))
            self.values[tensor.name] = array
            self.names[id(array)] = tensor.name
        if graph.sparse_initializer:
            raise UnsupportedModelError("it holds sparse tensors; save it with dense ones")

    def node(self, node: NodeProto) -> None:
        """Convert one node; fold it where all that it takes is known."""
        from finicky.backbones.onnx_graph.operators import OPERATORS

        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedModelError(
                f"operator {node.domain}.{node.op_type} ({node.name}) is no standard one"
            )
        inputs = [self._value(node, name) for name in node.input]
        if node.op_type == "If":
            self._branch(node, inputs[0])
            return
        if node.op_type in FOLDABLE and not any(isinstance(v, Ref) for v in inputs):
            self._set(node, fold(node, inputs, self.opset))
            return
        if node.op_type not in OPERATORS:
            raise UnsupportedModelError(
                f"operator {node.op_type} ({node.name or node.output[0]}) is not known to Finicky"
            )
        before = turned(self.draft, inputs) if node.op_type in ELEMENTWISE else None
        call = Call(self, node, before[0] if before else inputs)
        try:
            found = OPERATORS[node.op_type](call)
        except UnsupportedModelError:
            raise
        except _AMISS as error:  # attributes or inputs that are not as the standard wants them
            raise call.refusal("cannot be read") from error
        if before:
            found = self.draft.function("aten.permute.default", found, before[1])
        self._set(node, found)

    def _branch(self, node: NodeProto, condition: Value) -> None:
        """An ``If`` whose side is known beforehand is that side."""
        if not isinstance(condition, np.ndarray):
            raise UnsupportedModelError(f"If ({node.name}) depends on the photo")
        wanted = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == wanted)
        self.load(branch)
        for inner in branch.node:
            self.node(inner)
        for name, value in zip(node.output, branch.output, strict=True):
            self.values[name] = self.values[value.name]

    def _value(self, node: NodeProto, name: str) -> Value:
        if name not in self.values:
            raise UnsupportedModelError(
                f"{node.op_type} ({node.name}) takes {name}, which is unset"
            )
        return self.values[name]

    def _set(self, node: NodeProto, found: Any) -> None:
        results = list(found) if isinstance(found, (list, tuple)) else [found]
        for name, value in zip(node.output, results, strict=False):
            self.values[name] = _plain(value) if isinstance(value, np.ndarray) else value


class Call:
    """One node with its inputs and attributes at hand."""

    def __init__(self, reading: Reading, node: NodeProto, inputs: list[Value]) -> None:
        from onnx import helper

        self.reading, self.draft, self.opset = reading, reading.draft, reading.opset
        self.node, self.inputs = node, inputs
        self.kind, self.outputs = node.op_type, len(node.output)
        self._attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        value = self._attributes.get(name, default)
        if isinstance(value, bytes):
            return value.decode("ascii", "replace")
        return list(value) if isinstance(value, (list, tuple)) else value

    def input(self, number: int) -> Value:
        """An input, None where it is left out."""
        return self.inputs[number] if number < len(self.inputs) else None

    def ref(self, number: int = 0) -> Ref:
        """An input that must depend on the photo, or is made to look like it."""
        value = self.input(number)
        if not isinstance(value, Ref):
            raise self.refusal(f"takes a constant as input {number}")
        return value

    def operand(self, number: int) -> Ref | Stored | float:
        """An input of arithmetic: a value, a number or a carried tensor."""
        value = self.input(number)
        if isinstance(value, Ref):
            return value
        array = self.array(number)
        if array.size == 1 and array.ndim <= 1:
            return float(array.reshape(-1)[0])
        return self.draft.constant(torch.from_numpy(array.copy()))

    def array(self, number: int) -> np.ndarray:
        """An input that must be known beforehand."""
        value = self.input(number)
        if not isinstance(value, np.ndarray):
            raise self.refusal(f"takes an input {number} that depends on the photo")
        return value

    def tensor(self, number: int) -> Tensor | None:
        """A known input as a tensor of floats, None where it is left out."""
        if self.input(number) is None:
            return None
        return torch.from_numpy(np.array(self.array(number), np.float32))

    def ints(self, number: int, attribute: str) -> list[int] | None:
        """Integers that older opsets give as an attribute and newer ones as an input."""
        if self.input(number) is not None:
            return [int(n) for n in self.array(number).reshape(-1)]
        value = self.get(attribute)
        return None if value is None else [int(n) for n in value]

    def shape(self, number: int = 0) -> tuple[int, ...]:
        """The shape of an input."""
        value = self.input(number)
        return self.draft.shape(value) if isinstance(value, Ref) else self.array(number).shape

    def name(self, number: int = 1) -> str:
        """What to call the layer: as its weights are called, or its node."""
        value = self.input(number)
        known = self.reading.names.get(id(value), "")
        for end in (".weight", "/kernel:0", "/gamma:0", "/ReadVariableOp:0"):
            if known.endswith(end) and "/" not in known.removesuffix(end).rpartition(".")[2]:
                return known.removesuffix(end)
        return self.node.name or f"{self.kind}_{self.node.output[0]}"

    def used_once(self, number: int) -> bool:
        """Whether an input is used here only."""
        return self.reading.uses.get(self.node.input[number], 0) == 1

    def refusal(self, reason: str) -> UnsupportedModelError:
        """An error that names this node."""
        return UnsupportedModelError(
            f"operator {self.kind} ({self.node.name or self.node.output[0]}) {reason}"
        )


def _plain(array: np.ndarray) -> np.ndarray:
    """Half and double floats as float32, which all our layers compute in."""
    return array.astype(np.float32) if array.dtype in _FLOATS else array


def _photo_input(graph: GraphProto) -> tuple[Any, list[int], bool, int]:
    """The one input, its shape at batch ``batch``, whether channels come last, the batch."""
    from onnx import TensorProto

    given = {t.name for t in graph.initializer}
    # tf2onnx leaves inputs behind that nothing takes any more.
    taken = _uses(graph)
    inputs = [v for v in graph.input if v.name not in given and taken[v.name]]
    if len(inputs) != 1:
        raise UnsupportedModelError(
            f"it has {len(inputs)} inputs; a network that takes one batch of photos is expected"
        )
    kind = inputs[0].type.tensor_type
    dims = [max(d.dim_value, 0) for d in kind.shape.dim]  # 0: open; Paddle writes -1
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.UINT8):
        name = TensorProto.DataType.Name(kind.elem_type)
        raise UnsupportedModelError(f"its input is of type {name}; float or uint8 is expected")
    last = len(dims) == 4 and dims[3] == 3 and dims[1] != 3
    if len(dims) != 4 or (dims[3] if last else dims[1]) not in (3, 0):
        raise UnsupportedModelError(
            f"its input has shape {dims}; (N, 3, H, W) or (N, H, W, 3), colour, is expected"
        )
    height, width = (dims[1], dims[2]) if last else (dims[2], dims[3])
    size = height or width or _SIZE
    if (width or size) != size:
        raise UnsupportedModelError(f"its photos are {height} by {width} px; squares are expected")
    batch = dims[0] if dims[0] > 0 else 2
    if batch > 64 or size > 2048:
        raise UnsupportedModelError(f"its input of {batch} photos of {size} px is too large")
    shape = [batch, size, size, 3] if last else [batch, 3, size, size]
    return inputs[0], shape, last, batch


def _idle_inputs(graph: GraphProto) -> dict[str, list[int]]:
    """Shapes of inputs that have to be fed, though nothing takes them."""
    taken, given = _uses(graph), {t.name for t in graph.initializer}
    return {
        value.name: [max(d.dim_value, 1) for d in value.type.tensor_type.shape.dim]
        for value in graph.input
        if value.name not in given and not taken[value.name]
    }


def _uses(graph: GraphProto) -> Counter[str]:
    count = Counter(name for node in graph.node for name in node.input)
    count.update(value.name for value in graph.output)
    return count


def _answer(graph: GraphProto, reading: Reading) -> str:
    """The first output that holds floats; others (labels, auxiliary heads) are left out."""
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.UNDEFINED)
    maps = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "ZipMap"}
    for value in graph.output:
        if value.name in maps:  # Core ML's dictionary: what it is made of
            return maps[value.name]
        if value.type.tensor_type.elem_type in floats and value.name not in reading.values:
            return value.name
    raise UnsupportedModelError("it has no output of floats")


def _needed(graph: GraphProto, wanted: set[str]) -> list[NodeProto]:
    """Nodes that the answer is made from; other outputs' operators need not be known."""
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted |= set(node.input)
            # A subgraph takes what it needs from around it.
            inner = [a.g for a in node.attribute if a.HasField("g")]
            wanted |= {name for g in inner for n in g.node for name in n.input}
            wanted |= {value.name for g in inner for value in g.output}
    return kept[::-1]


def _before_softmax(graph: GraphProto, output: str) -> str:
    makers = {name: node for node in graph.node for name in node.output}
    while output in makers and makers[output].op_type in ("Softmax", "Sigmoid", "Identity"):
        output = makers[output].input[0]
    return output


def _with_output(model: ModelProto, name: str) -> bytes:
    """The file's bytes, with one more of its values as an output."""
    import onnx

    if all(value.name != name for value in model.graph.output):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        kind = onnx.TensorProto.FLOAT
        copy.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
        model = copy
    return model.SerializeToString()
