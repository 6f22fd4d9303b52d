"""The first look at an ONNX file, for the child process: parsed, walked and run once, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finicky.backbones.onnx_file import read_onnx
from finicky.errors import DataError

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
            shape = [n if isinstance(n, int) and n > 0 else _SIDE for n in value.shape or ()]
            if shape and not isinstance(value.shape[0], int):
                shape[0] = 1
            if len(shape) == 4:
                shape = [3 if i == _channel(value.shape) else n for i, n in enumerate(shape)]
            kind = np.uint8 if value.type == "tensor(uint8)" else np.float32
            if np.prod([float(n) for n in shape]) > 1e8:
                raise DataError(f"{path}: its input {value.name} has shape {shape}: too large")
            feeds[value.name] = np.zeros(shape, kind)
        session.run(None, feeds)
    except DataError:
        raise
    except Exception as error:  # ONNX Runtime raises a class for each of its states
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: ONNX Runtime cannot run it: {reason}") from error


def _channel(shape: list[Any]) -> int:
    return 3 if shape[3] == 3 and shape[1] != 3 else 1
