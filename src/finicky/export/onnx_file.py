"""The classifier as an ONNX file, checked against PyTorch before it is called done."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finicky._version import __version__
from finicky.errors import FinickyError
from finicky.export.classifier import Classifier
from finicky.files import atomic_path

OPSET = 18
METADATA_KEY = "finicky"
SCHEMA = 2
# Scale-relative, max|difference| / max|reference|, of logits and of a map's cells. A network's own
# outputs differ by 1e-6 when sums are made in another order; heads whose large weights of both
# signs cancel multiply that, and are fitted so that they do not (`LogisticHead.gain`).
TOLERANCE = 1e-5
# What a run accepts of a candidate, so that one of many that are only compared does not end it.
HEAD_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Parity:
    """How well the exported file agrees with PyTorch.

    Attributes:
        tiles: How many tiles were compared.
        difference: Largest scale-relative difference of a logit.
        same_class: Whether every tile got the same class (ties within the tolerance aside).
        map_difference: Largest scale-relative difference of a cell of the map; ``None`` without.
    """

    tiles: int
    difference: float
    same_class: bool
    map_difference: float | None = None

    def within(self, tolerance: float, most_map: float = TOLERANCE) -> bool:
        """Difference at most ``tolerance``, no class changed, and the map within its limit."""
        same_map = self.map_difference is None or self.map_difference <= most_map
        return self.difference <= tolerance and self.same_class and same_map

    def told(self, tolerance: float) -> str:
        """For people."""
        allowed = f"(at most {tolerance:.0e} allowed) on {self.tiles} tiles"
        text = f"difference {self.difference:.1e} {allowed}"
        if self.map_difference is not None:
            text += f"; map {self.map_difference:.1e} (at most {TOLERANCE:.0e})"
        return text


def export_onnx(
    classifier: Classifier,
    path: Path,
    *,
    size: int,
    class_names: Sequence[str],
    tiles: np.ndarray,
    metadata: Mapping[str, Any],
    tolerance: float = TOLERANCE,
    most_map: float = TOLERANCE,
) -> Parity:
    """Write an ONNX file of any batch size, and compare it with PyTorch on real tiles.

    Args:
        classifier: In eval mode.
        path: Where; whole or not at all.
        size: Side of a tile in px.
        class_names: Of the two outputs: not target, target.
        tiles: ``(N, size, size, 3)`` uint8 to compare on, at least one.
        metadata: More for the file's ``finicky`` entry; plain JSON values.
        tolerance: Largest scale-relative difference of a logit that passes.
        most_map: The same of a cell of the map.

    Raises:
        FinickyError: The export fails, or disagrees with PyTorch; no file is left then.
    """
    with atomic_path(path) as temporary:
        _export(classifier, temporary, size)
        if classifier.pixels is not None:
            metadata = {
                "task": "classify+map",
                "map_px": size / classifier.pixels.cells,
                **metadata,
            }
        note = {"tile_px": size, "classes": list(class_names)}
        write_metadata(temporary, note | dict(metadata))
        parity = check_parity(classifier, temporary, tiles, tolerance=tolerance)
        if not parity.within(tolerance, most_map):
            raise FinickyError(f"{path.name} disagrees with PyTorch: {parity.told(tolerance)}")
    return parity


def check_parity(
    classifier: Classifier, path: Path, tiles: np.ndarray, *, tolerance: float = TOLERANCE
) -> Parity:
    """Compare an ONNX file with PyTorch on ``(N, S, S, 3)`` uint8 tiles.

    Tiles whose logit is within ten tolerances of 0 may fall to either class.

    Compared are logits, log(P/(1−P)), because probabilities near 0 and 1 hide differences.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    ours, theirs = [], []
    with torch.inference_mode():
        for start in range(0, len(tiles), 32):
            block = np.array(tiles[start : start + 32])
            found = classifier(torch.from_numpy(block))
            ours.append([t.numpy() for t in (found if isinstance(found, tuple) else (found,))])
            theirs.append(session.run(None, {name: block}))
    reference, exported = (
        _logit(np.concatenate([block[0] for block in blocks])) for blocks in (ours, theirs)
    )
    # Not below 1: near P = 0.5 the last bit of a float32 probability is 2e-7 of logit 1.
    scale = max(float(np.abs(reference).max()), 1.0)
    difference = float(np.abs(reference - exported).max()) / scale
    sure = np.abs(reference) > 10 * max(tolerance, 0.0) * scale
    same = bool(np.all(np.sign(reference[sure]) == np.sign(exported[sure])))
    return Parity(len(tiles), difference, same, _map_difference(ours, theirs))


def _map_difference(ours: list[list[np.ndarray]], theirs: list[list[np.ndarray]]) -> float | None:
    if len(ours[0]) == 1:
        return None
    if any(len(block) != 2 for block in theirs):
        return math.inf
    pairs = [(a[1], b[1]) for a, b in zip(ours, theirs, strict=True)]
    largest = max(float(np.abs(a).max()) for a, _ in pairs)
    return max(float(np.abs(a - b).max()) for a, b in pairs) / max(largest, 1e-12)


def read_metadata(path: Path) -> dict[str, Any]:
    """The ``finicky`` entry of an ONNX file that `export_onnx` wrote."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in entries:
        raise FinickyError(f"{path} carries no {METADATA_KEY} entry: it is not one of our exports")
    value: dict[str, Any] = json.loads(entries[METADATA_KEY])
    return value


def _export(classifier: Classifier, path: Path, size: int) -> None:
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    try:
        with _quiet():
            program = torch.onnx.export(
                classifier,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["tiles"],
                output_names=["probabilities", "map"][: 1 if classifier.pixels is None else 2],
                dynamic_shapes=({0: batch},),
                external_data=False,
                verbose=False,
            )
            assert program is not None
            program.save(str(path), external_data=False)
    except OSError:
        raise
    except Exception as error:  # whatever the exporter raises, with our context
        reason = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        raise FinickyError(f"export to ONNX (opset {OPSET}) failed: {reason}") from error


def write_metadata(path: Path, note: Mapping[str, Any]) -> None:
    """Put our entry and those that other tools show into an ONNX file, and read it back.

    Written last: tools that slim or quantise a file may drop it.

    Args:
        path: Of the file, changed in place.
        note: Plain JSON values, with ``tile_px`` and ``classes``.
    """
    import onnx

    model = onnx.load(path)
    _forget_origins(model)
    names, size = [str(name) for name in note["classes"]], int(note["tile_px"])
    full = {"schema": SCHEMA, "task": "classify", **note}
    license_ = str(note.get("licence") or note.get("provenance", {}).get("license") or "unknown")
    entries = {
        METADATA_KEY: json.dumps(full, ensure_ascii=False, allow_nan=False),
        "names": json.dumps(dict(enumerate(names)), ensure_ascii=False),
        "class_names": json.dumps(dict(enumerate(names)), ensure_ascii=False),
        "imgsz": json.dumps([size, size]),
        "description": f"finds {names[1]} in tiles of {size} px",
        "license": license_,
        "version": __version__,
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
    }
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, path)
    if read_metadata(path) != json.loads(entries[METADATA_KEY]):
        raise FinickyError(f"metadata of {path.name} did not survive writing")


def _forget_origins(model: Any) -> None:
    """Drop where in Python each node came from: 7 % of a small file, and the builder's folders."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    graph = model.graph
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
    del graph.metadata_props[:]


def _logit(probabilities: np.ndarray) -> np.ndarray:
    both = np.clip(probabilities.astype(np.float64), 1e-30, None)
    return np.log(both[:, 1]) - np.log(both[:, 0])


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """The exporter tells users about packages that they do not need."""
    names = ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings(), Path(os.devnull).open("w") as sink:
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            with contextlib.redirect_stdout(sink):
                yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
