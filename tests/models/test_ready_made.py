"""Every model in the package is whole, small, and answers as its metadata says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import finicky
from finicky.data.surfaces import SurfaceStyle, make_surface
from finicky.evaluation.pixels import pixel_quality
from finicky.export import read_metadata
from finicky.files import read_json, sha256_file
from finicky.mapping import MapThresholds, binary, photo_maps

FOLDERS = sorted(p.parent for p in Path(finicky.__file__).parent.glob("models/*/bundle.json"))
MOST_BYTES = 1_500_000

pytestmark = pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)


def test_the_folder_is_what_its_bundle_says_and_small(folder: Path) -> None:
    value = read_json(folder / "bundle.json")
    assert (value["schema"], value["name"]) == (1, folder.name)
    assert value["preferred"] in value["files"]
    for name, digest in value["files"].items():
        assert sha256_file(folder / name) == digest
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES


def test_the_card_tells_where_it_fails_and_what_it_never_saw(folder: Path) -> None:
    text = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for wanted in ("METU test (never seen)", "CFD (never seen)", "Crack500 (never seen)"):
        assert wanted in text
    assert "CC BY 4.0" in text
    assert "## Known failures" in text
    assert "Not for" in text


def test_metadata_holds_what_an_inspection_needs(folder: Path) -> None:
    note = read_metadata(folder / "model.onnx")
    assert (note["schema"], note["task"]) == (2, "classify+map")
    limits = note["thresholds"]
    assert 0 < limits["tile"] < 1
    assert 0 < limits["map_low"] <= limits["map_high"] < 1
    assert note["target"]["name"] == "crack"
    assert note["metrics"]["checked"]["CFD"]["photos"] == 118


def test_a_wide_crack_in_a_new_surface_is_traced(folder: Path) -> None:
    """A surface of another seed than any in training, from the shipped file alone."""
    path = folder / "model.onnx"
    note = read_metadata(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    style = SurfaceStyle(crack_width_px=(5.0, 8.0), crack_darkness=(0.7, 0.9))
    surface = make_surface(991, width=384, height=288, style=style, crack=True)

    def run(tiles: np.ndarray) -> list[np.ndarray]:
        return [session.run(["map"], {"tiles": tiles})[0]]

    (found,) = photo_maps(surface.photo, run, size=note["tile_px"])
    limits = note["thresholds"]
    marked = binary(found, MapThresholds(limits["map_high"], limits["map_low"]))
    assert pixel_quality([marked], [(surface.mask == 1).astype(np.uint8)]).f1 > 0.6
