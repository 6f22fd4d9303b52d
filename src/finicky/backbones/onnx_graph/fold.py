"""Nodes of an ONNX graph whose inputs are all known: computed once, while reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finicky.errors import UnsupportedModelError

if TYPE_CHECKING:
    from onnx import NodeProto

_LARGEST = 1 << 27  # numbers in a folded tensor

# Arithmetic of shapes and weights. Each is small, or as large as its inputs say.
FOLDABLE = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "CastLike",
        "Ceil",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "DequantizeLinear",
        "Div",
        "Equal",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pad",
        "Pow",
        "Range",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Reshape",
        "Round",
        "Shape",
        "Sign",
        "Size",
        "Slice",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)


def fold(node: NodeProto, inputs: Sequence[Any], opset: int) -> list[Any]:
    """The node's outputs, by onnx' own reference implementation."""
    import onnx
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    _check_size(node, inputs)
    names = [name for name in node.input if name]
    graph = helper.make_graph(
        [node],
        "fold",
        [helper.make_value_info(name, onnx.TypeProto()) for name in dict.fromkeys(names)],
        [helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    feeds = {name: inputs[i] for i, name in enumerate(node.input) if name}
    try:
        found = iter(ReferenceEvaluator(model).run(None, feeds))
    except Exception as error:  # numpy raises many kinds for inputs that do not fit
        raise UnsupportedModelError(
            f"operator {node.op_type} ({node.name}) cannot be computed: {error!r:.120}"
        ) from error
    return [np.asarray(next(found)) if name else None for name in node.output]


def _check_size(node: NodeProto, inputs: Sequence[Any]) -> None:
    """Refuse what would make something huge out of a few bytes."""
    wanted = 0.0
    known = [np.asarray(v) for v in inputs if v is not None]
    if node.op_type in ("ConstantOfShape", "Expand") and known:
        wanted = float(np.prod(np.maximum(known[-1].astype(float), 1)))
    elif node.op_type == "Tile":
        wanted = known[0].size * float(np.prod(known[1].astype(float)))
    elif node.op_type == "Range" and float(known[2]):
        wanted = float(known[1] - known[0]) / float(known[2])
    elif node.op_type == "Pad" and len(known) > 1:
        sides = known[0].ndim
        grown = (
            np.array(known[0].shape) + np.abs(known[1]).astype(float).reshape(2, -1).sum(0)[-sides:]
            if known[1].size == 2 * sides
            else np.array([1.0])
        )
        wanted = float(np.prod(grown))
    elif node.op_type not in ("Gather", "MatMul") and known:
        try:
            wanted = float(np.prod(np.broadcast_shapes(*(v.shape for v in known)), dtype=float))
        except ValueError:
            wanted = 0.0
    if wanted > _LARGEST:
        raise UnsupportedModelError(
            f"operator {node.op_type} ({node.name}) would make {wanted:.0e} numbers: too many"
        )
