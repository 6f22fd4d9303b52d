"""The OpenVINO model answers as the ONNX file, and one that does not is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import finicky
from finicky.errors import FinickyError
from finicky.export import others
from finicky.export.answers import ask_onnx

READY = Path(finicky.__file__).parent / "models" / "crack-vgg16" / "model.onnx"


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    shutil.copyfile(READY, tmp_path / "model.onnx")
    return tmp_path


def test_without_the_package_the_bundle_says_what_is_missing(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(others, "find_spec", lambda _: None)
    (note,) = others.write_others(stage, True, 96)
    assert "pip install openvino" in note
    assert others.write_others(stage, False, 96) == ()
    assert [path.name for path in stage.iterdir()] == ["model.onnx"]


def test_openvino_model_answers_as_the_onnx_file(stage: Path) -> None:
    pytest.importorskip("openvino", reason="the openvino package is not installed")
    assert others.write_others(stage, True, 96) == ()
    folder = stage / "model_openvino"
    assert sorted(p.name for p in folder.iterdir()) == ["model.bin", "model.xml"]
    tiles = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    ours, theirs = ask_onnx(stage / "model.onnx", tiles), others.ask_openvino(folder, tiles)
    np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-4)
    assert ours.map is not None
    assert theirs.map is not None
    np.testing.assert_allclose(theirs.map, ours.map, atol=1e-3)


def test_openvino_model_that_differs_is_refused(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="the openvino package is not installed")
    monkeypatch.setattr(others, "OPENVINO_TOLERANCE", -1.0)
    with pytest.raises(FinickyError, match=r"differs from ONNX Runtime by .* leave --openvino out"):
        others.write_others(stage, True, 96)
