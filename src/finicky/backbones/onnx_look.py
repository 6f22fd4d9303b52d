"""The first look at an ONNX file, for the child process: parsed, walked and run once, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finicky.backbones.onnx_file import read_onnx
from finicky.errors import DataError

# Types of inputs; others than floats and bytes are refused later, by name.
_KINDS = {
    f"tensor({theirs})": ours
    for theirs, ours in (
        *((n, n) for n in ("uint8", "int8", "int32", "int64", "float16", "bool")),
        ("double", "float64"),
    )
}
_SIDE = 64  # of the trial photo, where the file leaves it open


def look(path: Path) -> dict[str, Any]:
    """Facts about a file that can be parsed, points nowhere else, and runs in ONNX Runtime.

    Raises:
        DataError: It cannot; the message names the offending part.
    """
    model = read_onnx(path)
    _run_once(path, model.SerializeToString())
    return {"nodes": len(model.graph.node), "opset": max(o.version for o in model.opset_import)}


def look_beside(path: Path) -> dict[str, Any]:
    """`look`, for a file whose user allowed data in plain files beside it."""
    model = read_onnx(path, external_data=True)
    _run_once(path, model.SerializeToString())
    return {"nodes": len(model.graph.node), "opset": max(o.version for o in model.opset_import)}


def _run_once(path: Path, content: bytes) -> None:
    """ONNX Runtime has crashed on crafted files; where it does, only this process ends."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        feeds = {}
        for value in session.get_inputs():
            shape = _trial(value.shape or [])
            kind = _KINDS.get(value.type, "float32")
            if np.prod([float(n) for n in shape]) > 1e8:
                raise DataError(f"{path}: its input {value.name} has shape {shape}: too large")
            feeds[value.name] = np.zeros(shape, kind)
        session.run(None, feeds)
    except DataError:
        raise
    except Exception as error:  # ONNX Runtime raises a class for each of its states
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: ONNX Runtime cannot run it: {reason}") from error


def _trial(shape: list[Any]) -> list[int]:
    """Sizes for one photo where the file leaves them open, by a name or with −1."""
    known = [n if isinstance(n, int) and n > 0 else 0 for n in shape]
    filled = [n or _SIDE for n in known]
    if filled and not known[0]:
        filled[0] = 1
    channel = 3 if len(shape) == 4 and shape[3] == 3 and shape[1] != 3 else 1
    if len(shape) == 4 and not known[channel]:
        filled[channel] = 3
    return filled
