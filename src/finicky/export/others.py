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
    compiled = openvino.Core().compile_model(
        str(folder / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    tiles = pattern_tiles(tile)
    found = compiled(tiles)
    theirs = Answers(np.asarray(found[compiled.output("probabilities")]), None)
    ours = ask_onnx(stage / MODEL, tiles)
    scale = max(float(np.abs(ours.logits).max()), 1.0)
    difference = float(np.abs(ours.logits - theirs.logits).max()) / scale
    if difference > OPENVINO_TOLERANCE:
        raise FinickyError(
            f"the OpenVINO model differs from ONNX Runtime by {difference:.1e} "
            f"({OPENVINO_TOLERANCE:.0e} allowed): leave --openvino out"
        )
