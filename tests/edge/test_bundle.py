"""Opening bundles: what is accepted, and one clear line for what is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edge.edge_helpers import CELL, TILE, dark_bundle, dark_model
from finicky.edge import Thresholds, bundle, open_bundle
from finicky.errors import DataError, ShapeError, UsageError
from finicky.files import read_json, write_json


def change(path: Path, **entries: object) -> None:
    write_json(path, read_json(path) | entries)


def test_a_bundle_says_what_it_is(tmp_path):
    opened = open_bundle(dark_bundle(tmp_path / "b"))
    assert opened.path == tmp_path / "b" / "model.onnx"
    assert (opened.name, opened.tile_px, opened.map_px) == ("dark", TILE, float(CELL))
    assert opened.classes == ("background", "crack")
    assert (opened.target.id, opened.target.name, opened.target.color) == (1, "crack", "#D55E00")
    assert opened.thresholds == Thresholds(0.5, 0.6, 0.4)
    assert opened.metadata["task"] == "classify+map"


def test_it_runs_tiles(tmp_path):
    opened = open_bundle(dark_bundle(tmp_path / "b"))
    tiles = np.full((2, TILE, TILE, 3), 255, np.uint8)
    tiles[1, :CELL, :CELL] = 0
    probabilities, found = opened.run(tiles)
    assert probabilities.shape == (2, 2)
    assert probabilities[:, 1].round().tolist() == [0, 1]
    assert found is not None
    assert found[1].round().sum() == 1
    assert found[1, 0, 0] > 0.99
    assert opened.session(1) is opened.session(1)


@pytest.mark.parametrize("shape", [(1, TILE, TILE), (1, 3, TILE, TILE), (1, TILE, TILE + 1, 3)])
def test_tiles_of_another_shape_are_refused(tmp_path, shape):
    opened = open_bundle(dark_bundle(tmp_path / "b"))
    with pytest.raises(ShapeError, match=r"\(N, 32, 32, 3\) uint8"):
        opened.run(np.zeros(shape, np.uint8))


def test_a_file_of_schema_1_has_no_map_and_the_default_threshold(tmp_path):
    path = dark_model(
        tmp_path / "m.onnx", with_map=False, schema=1, target=None, thresholds=None, overlap=0.25
    )
    opened = open_bundle(path)
    assert opened.name == "m"
    assert opened.map_px is None
    assert opened.thresholds == Thresholds(0.5)
    assert opened.overlap == 0.25
    assert (opened.target.id, opened.target.name) == (1, "crack")
    _, found = opened.run(np.zeros((1, TILE, TILE, 3), np.uint8))
    assert found is None


@pytest.mark.parametrize("folder", ["run", "run/selected"])
def test_the_chosen_network_of_a_run_folder_is_a_bundle(tmp_path, folder):
    dark_model(tmp_path / "run" / "selected" / "model.onnx", schema=1)
    assert open_bundle(tmp_path / folder).name == "run"


def test_ready_made_models_are_found_by_name(tmp_path, monkeypatch):
    dark_bundle(tmp_path / "models" / "crack-dark")
    monkeypatch.setattr(bundle, "READY_MADE", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert open_bundle("crack-dark").name == "dark"
    with pytest.raises(UsageError, match=r"no bundle crack-drak: .*Did you mean crack-dark\?"):
        open_bundle("crack-drak")


def test_another_model_of_the_bundle_can_be_asked_for(tmp_path):
    folder = dark_bundle(tmp_path / "b")
    shutil.copy(folder / "model.onnx", folder / "model.int8.onnx")
    listing = read_json(folder / "bundle.json")
    listing["files"]["model.int8.onnx"] = listing["files"]["model.onnx"]
    listing["preferred"] = "model.int8.onnx"
    write_json(folder / "bundle.json", listing)
    assert open_bundle(folder).path.name == "model.int8.onnx"
    assert open_bundle(folder, model="model.onnx").path.name == "model.onnx"
    with pytest.raises(UsageError, match=r"no model 'model.int4.onnx'.*model.int8.onnx"):
        open_bundle(folder, model="model.int4.onnx")


def test_nothing_there_is_misuse(tmp_path):
    with pytest.raises(UsageError, match=r"no bundle .*nowhere: expected a folder written by"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"holds neither bundle.json nor model.onnx"):
        open_bundle(tmp_path)


def test_one_changed_byte_is_noticed(tmp_path):
    folder = dark_bundle(tmp_path / "b")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(bytes(content))
    with pytest.raises(
        DataError, match=r"model.onnx is not the file that bundle.json names: .*got"
    ):
        open_bundle(folder)


def test_a_missing_model_file_is_said(tmp_path):
    folder = dark_bundle(tmp_path / "b")
    (folder / "model.onnx").unlink()
    with pytest.raises(DataError, match=r"cannot read .*model.onnx: No such file"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"schema": 2}, "has format 2, this version of Finicky reads up to 1. Install a newer"),
        ({"schema": None}, "describes no bundle"),
        ({"files": None}, "names no files"),
        ({"preferred": 3}, "names no files"),
    ],
)
def test_a_bundle_file_that_cannot_be_used_is_one_line(tmp_path, entries, reason):
    folder = dark_bundle(tmp_path / "b")
    change(folder / "bundle.json", **entries)
    with pytest.raises(DataError, match=reason) as caught:
        open_bundle(folder)
    assert "\n" not in str(caught.value)


def test_a_bundle_file_that_points_outside_is_refused(tmp_path):
    folder = dark_bundle(tmp_path / "b")
    dark_model(tmp_path / "other.onnx")
    files = {"../other.onnx": "0" * 64}
    change(folder / "bundle.json", files=files, preferred="../other.onnx")
    with pytest.raises(UsageError, match=r"no model '../other.onnx'"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"schema": 3}, "has format 3, this version of Finicky reads up to 2. Install a newer"),
        ({"schema": "x"}, "entry cannot be read"),
        ({"tile_px": None}, "entry is incomplete"),
        ({"classes": ["crack"]}, "entry is incomplete"),
        ({"classes": ["a", "b", "c"]}, "entry is incomplete"),
        ({"thresholds": {"tile": 1.5}}, r"thresholds \[1.5"),
        ({"thresholds": {"map_high": 0.3, "map_low": 0.4}}, r"thresholds \[0.5, 0.3, 0.4\]"),
        ({"target": {"id": 1, "name": "crack", "colour": "red"}}, "colour 'red'"),
        ({"overlap": 1}, "overlap 1.0 cannot be"),
        ({"map_px": 64}, "map 64.0 px"),
        ({"tile_px": 48}, r"expected tiles \(N, 48, 48, 3\) uint8 in"),
    ],
)
def test_metadata_that_cannot_be_used_is_one_line(tmp_path, entries, reason):
    path = dark_model(tmp_path / "m.onnx", **entries)
    with pytest.raises(DataError, match=reason) as caught:
        open_bundle(path)
    assert "\n" not in str(caught.value)


def test_unknown_metadata_is_ignored(tmp_path):
    path = dark_model(tmp_path / "m.onnx", weather="fine")
    assert open_bundle(path).metadata["weather"] == "fine"


def test_a_map_that_is_promised_but_missing_is_said(tmp_path):
    path = dark_model(tmp_path / "m.onnx", with_map=False, map_px=4)
    with pytest.raises(DataError, match="map and probabilities out"):
        open_bundle(path)


def test_a_foreign_model_is_no_bundle(tmp_path):
    path = dark_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, {"names": "{}"})
    onnx.save(model, path)
    with pytest.raises(DataError, match="carries no 'finicky' entry"):
        open_bundle(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 500])
def test_what_the_runtime_cannot_load_is_one_line(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"m.onnx|carries no") as caught:
        open_bundle(path)
    assert "\n" not in str(caught.value)


def test_threads_must_not_be_negative(tmp_path):
    with pytest.raises(UsageError, match="threads must be 0"):
        open_bundle(dark_bundle(tmp_path / "b")).session(-1)


def test_the_device_needs_nothing_of_what_training_needs(tmp_path):
    """Imports with everything heavy blocked, as on a Raspberry Pi with the base install."""
    import subprocess
    import sys

    folder = dark_bundle(tmp_path / "b")
    code = f"""
import sys
for name in ("torch", "torch_pruning", "sklearn", "scipy", "skimage", "onnx", "h5py", "cv2",
             "matplotlib", "jinja2", "starlette"):
    sys.modules[name] = None
import numpy as np, finicky
opened = finicky.open_bundle({str(folder)!r})
print(opened.run(np.zeros((1, {TILE}, {TILE}, 3), np.uint8))[0][0, 1] > 0.9)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
