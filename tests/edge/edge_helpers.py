"""A tiny model that finds what is dark, so that answers can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from finicky.files import sha256_file, write_json

TILE, CELL = 32, 4


def dark_model(
    path: Path, *, tile: int = TILE, cell: int = CELL, with_map: bool = True, **metadata: Any
) -> Path:
    """Write an ONNX file as `finicky export` does: a cell darker than mid-grey is target.

    The probability of a cell is ``sigmoid(24·(0.5 − brightness))`` with its mean brightness in
    [0, 1]; that of a tile is its cells' maximum.
    """
    constants = {
        "scale": np.float32(1 / 255),
        "middle": np.float32(0.5),
        "gain": np.float32(24),
        "one": np.float32(1),
    }
    nodes = [
        helper.make_node("Cast", ["tiles"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axis3"], ["grey"], keepdims=1),
        helper.make_node("Transpose", ["grey"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["cells"], kernel_shape=[cell, cell], strides=[cell, cell]
        ),
        helper.make_node("Mul", ["cells", "scale"], ["bright"]),
        helper.make_node("Sub", ["middle", "bright"], ["dark"]),
        helper.make_node("Mul", ["dark", "gain"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["soft"]),
        helper.make_node("Squeeze", ["soft", "axis1"], ["map"]),
        helper.make_node("ReduceMax", ["map", "axes12"], ["most"], keepdims=0),
        helper.make_node("Unsqueeze", ["most", "axis1"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
    ]
    side = tile // cell
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])]
    if with_map:
        outputs.append(helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", side, side]))
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    for name, axes in (("axis3", [3]), ("axis1", [1]), ("axes12", [1, 2])):
        tensors.append(numpy_helper.from_array(np.array(axes, np.int64), name))
    tiles = helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["N", tile, tile, 3])
    graph = helper.make_graph(nodes, "dark", [tiles], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    note: dict[str, Any] = {
        "schema": 2,
        "task": "classify+map" if with_map else "classify",
        "tile_px": tile,
        "classes": ["background", "crack"],
        "target": {"id": 1, "name": "crack", "colour": "#D55E00"},
        "thresholds": {"tile": 0.5, "map_high": 0.6, "map_low": 0.4},
        "overlap": 0.5,
    }
    if with_map:
        note["map_px"] = float(cell)
    note |= metadata
    helper.set_model_props(model, {"finicky": json.dumps(note)})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def dark_bundle(folder: Path, **options: Any) -> Path:
    """A whole bundle folder around `dark_model`."""
    model = dark_model(folder / "model.onnx", **options)
    files = {"model.onnx": sha256_file(model)}
    listing = {"schema": 1, "name": "dark", "preferred": "model.onnx", "files": files}
    write_json(folder / "bundle.json", listing)
    return folder
