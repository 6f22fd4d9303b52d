"""A backbone from an ONNX file: first looked at in a child, then rewritten and compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from finicky.backbones.backbone import PREPROCESSINGS, Backbone, Preprocessing
from finicky.backbones.blueprint import Blueprint, Built
from finicky.backbones.foreign import as_backbone, rebuild
from finicky.backbones.onnx_file import read_onnx
from finicky.backbones.onnx_graph.convert import Converted, convert
from finicky.backbones.sandbox import first_look
from finicky.errors import UnsupportedModelError

# Scale-relative, max|difference| / max|reference|, as for our own exports.
TOLERANCE = 1e-5


def load(
    path: Path, *, preprocessing: Preprocessing | None = None, external_data: bool = False
) -> Backbone:
    """The backbone in an ONNX file of opset 9 or later.

    Args:
        path: The file; from strangers too.
        preprocessing: What it expects of photos, where it does not say so itself.
        external_data: Whether its weights may lie in plain files beside it.

    Raises:
        DataError: The file is damaged or hostile; the message names the part.
        UnsupportedModelError: It uses what Finicky does not know, by name, or the rewritten
            network answers differently.
    """
    path = Path(path)
    first_look("onnx-beside" if external_data else "onnx", path)
    model = read_onnx(path, external_data=external_data)
    try:
        found = convert(model)
        given = preprocessing or _hint(found)
        backbone = as_backbone(
            path,
            "onnx",
            found.module,
            found.wiring,
            size=found.size,
            byte_input=found.byte_input,
            preprocessing=given,
            what=f"ONNX file, opset {found.opset}{found.producer}",
        )
        check_parity(found, backbone.preprocessing)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{path} cannot be used: {error}") from error
    return backbone


def build(blueprint: Blueprint) -> Built:
    """Features and head of a blueprint of kind ``onnx``, with fresh weights."""
    return rebuild(blueprint)


def check_parity(found: Converted, preprocessing: Preprocessing) -> float:
    """Compare the rewritten network with the file, run by ONNX Runtime, on photos of noise.

    Returns:
        The largest scale-relative difference.

    Raises:
        UnsupportedModelError: It is more than `TOLERANCE`, or depends on the batch.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(found.content, options, ["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    random = np.random.default_rng(0)
    photos = random.integers(0, 256, (2, found.size, found.size, 3), dtype=np.uint8)
    x = preprocessing(torch.from_numpy(photos))
    try:
        reference = np.concatenate([_run(session, names, found, x[i : i + 1]) for i in (0, 1)])
    except Exception as error:  # ONNX Runtime raises a class for each of its states
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedModelError(f"ONNX Runtime does not run it: {reason}") from error
    with torch.inference_mode():
        pair = found.compared(x).numpy()
        single = found.compared(x[:1]).numpy()
    if pair.shape != reference.shape or single.shape != reference[:1].shape:
        raise UnsupportedModelError(
            f"rewritten as layers it answers with shape {pair.shape}, the file with "
            f"{reference.shape}"
        )
    scale = float(np.abs(reference).max()) or 1.0
    with np.errstate(invalid="ignore"):  # of damaged files' infinities, which are refused below
        difference = max(
            float(np.abs(pair - reference).max()), float(np.abs(single - reference[:1]).max())
        )
    if not difference / scale <= TOLERANCE:
        raise UnsupportedModelError(
            f"rewritten as layers it differs from the file by {difference / scale:.1e} of its "
            f"largest answer, more than {TOLERANCE:.0e}"
        )
    return difference / scale


def _run(session, names: list[str], found: Converted, x: torch.Tensor) -> np.ndarray:  # type: ignore[no-untyped-def]
    """One photo through the file, in the layout, type and batch that it wants."""
    array = x.contiguous().numpy()
    if found.channels_last:
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    if found.byte_input:
        array = np.clip(np.rint(array), 0, 255).astype(np.uint8)
    array = np.repeat(array, found.batch, axis=0)
    idle = {name: np.zeros(shape, np.float32) for name, shape in found.idle_inputs.items()}
    answer = session.run([found.compared_name], {found.input_name: array, **idle})[0]
    assert found.compared_name in names
    return np.asarray(answer)[: len(answer) // found.batch]


def _hint(found: Converted) -> Preprocessing | None:
    """What the file's metadata say of the range and order of its input."""
    notes = found.metadata
    spread = notes.get("Image.NominalPixelRange", "")
    known = {
        "NominalRange_0_255": "raw",
        "Normalized_0_1": "unit",
        "Normalized_1_1": "signed",
    }
    if spread not in known or "finicky" in notes:
        return None
    hint = replace(PREPROCESSINGS[known[spread]], origin="the file's own metadata")
    if notes.get("Image.BitmapPixelFormat", "").lower().startswith("bgr"):
        return replace(hint, channel_order="bgr")
    return hint
