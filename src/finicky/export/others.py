"""The same network for OpenVINO, where its package is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from finicky.errors import FinickyError
from finicky.export.answers import Answers, ask_onnx
from finicky.export.source import MODEL
from finicky.patterns import pattern_tiles

OPENVINO_TOLERANCE = 1e-3


def write_others(stage: Path, openvino: bool, tile: int) -> tuple[str, ...]:
    """Add the models that were asked for; returns why one could not be added."""
    if not openvino:
        return ()
    if find_spec("openvino") is None:
        return ("no OpenVINO model: pip install openvino, then export again with --force",)
    _openvino(stage, tile)
    return ()


def _openvino(stage: Path, tile: int) -> None:
    """``model_openvino/``: compared with the ONNX file on generated tiles before it counts."""
    import openvino

    model = openvino.convert_model(str(stage / MODEL))
    folder = stage / "model_openvino"
    folder.mkdir()
    openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    tiles = pattern_tiles(tile)
    difference = _difference(ask_onnx(stage / MODEL, tiles), ask_openvino(folder, tiles))
    if difference > OPENVINO_TOLERANCE:
        raise FinickyError(
            f"the OpenVINO model differs from ONNX Runtime by {difference:.1e} "
            f"({OPENVINO_TOLERANCE:.0e} allowed): leave --openvino out"
        )


def ask_openvino(folder: Path, tiles: np.ndarray) -> Answers:
    """Run ``model_openvino/`` in full precision on ``(N, S, S, 3)`` uint8 tiles."""
    import openvino

    compiled = openvino.Core().compile_model(
        str(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = compiled(tiles)
    parts = {name: np.asarray(found[out]) for out in compiled.outputs for name in out.names}
    return Answers(parts["probabilities"], parts.get("map"))


def _difference(ours: Answers, theirs: Answers) -> float:
    """The largest of a logit, relative to the largest, and of a cell of the map."""
    if (ours.map is None) != (theirs.map is None):
        return float("inf")
    scale = max(float(np.abs(ours.logits).max()), 1.0)
    found = float(np.abs(ours.logits - theirs.logits).max()) / scale
    if ours.map is None or theirs.map is None:
        return found
    return max(found, float(np.abs(ours.map - theirs.map).max()))
