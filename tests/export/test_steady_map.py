"""A map that rounding would move too far is written flatter, and marks the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from finicky.backbones import Backbone, load_backbone
from finicky.errors import FinickyError
from finicky.export import Classifier, Parity, export_map, export_onnx, read_metadata, steady
from finicky.training import LogisticHead, PixelHead

SIZE = 64
TILES = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("alexnet", weights="random")


def _head(steepness: float) -> PixelHead:
    random = np.random.default_rng(1)
    weight = random.normal(size=(1, 64)).astype(np.float32)
    one = np.ones(1, np.float32)
    return PixelHead(("conv1",), (weight,), one, steepness * one, 0.0, SIZE, 15)


def _export(backbone: Backbone, pixels: PixelHead, path: Path) -> steady.ExportedMap:
    head = LogisticHead(np.full(256, 1e-3, np.float32), 0.0, 1.0, 0.5)
    return export_map(
        lambda pixels: Classifier(backbone, "mean", head, pixels),
        pixels,
        (0.9, 0.6),
        path,
        size=SIZE,
        class_names=("not crack", "crack"),
        tiles=TILES,
        metadata={"thresholds": {"tile": 0.4}},
        tolerance=1.0,
    )


def test_map_that_keeps_to_pytorch_is_written_as_it_is(backbone: Backbone, tmp_path: Path) -> None:
    found = _export(backbone, _head(1e-3), tmp_path / "model.onnx")
    assert (found.flattened, found.high, found.low) == (1.0, pytest.approx(0.9), pytest.approx(0.6))


def test_rougher_map_is_flattened_with_its_thresholds(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if this machine rounded a hundred times as coarsely."""

    def coarse(*args: object, **options: object) -> Parity:
        found = export_onnx(*args, **options)  # type: ignore[arg-type]
        assert found.map_difference is not None
        pixels = args[0].pixels  # type: ignore[attr-defined]
        return Parity(found.tiles, 0.0, True, 1e-5 * float(pixels.output.weight.abs().max()))

    monkeypatch.setattr(steady, "export_onnx", coarse)
    pixels = _head(3.0)
    found = _export(backbone, pixels, tmp_path / "model.onnx")
    assert found.flattened == 8.0
    np.testing.assert_allclose(found.head.output, pixels.output / 8)
    limits = read_metadata(tmp_path / "model.onnx")["thresholds"]
    own = {"map_high": found.high, "map_low": found.low, "map_flattened": 8.0}
    assert limits == {"tile": 0.4, **own}
    assert 0.5 < found.low < found.high < 0.6
    flat = _map(tmp_path / "model.onnx")
    monkeypatch.undo()
    steep = _map_of(backbone, pixels, tmp_path / "steep.onnx")
    sure = np.abs(steep - 0.9) > 1e-3
    np.testing.assert_array_equal((flat >= found.high)[sure], (steep >= 0.9)[sure])


def test_map_that_never_agrees_leaves_no_file(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steady, "STEADY", -1.0)
    monkeypatch.setattr(steady, "MOST_FLATTENING", 1.0)
    with pytest.raises(FinickyError, match=r"model\.onnx disagrees with PyTorch.*map"):
        _export(backbone, _head(1.0), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def _map(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["map"], {"tiles": TILES})[0])


def _map_of(backbone: Backbone, pixels: PixelHead, path: Path) -> np.ndarray:
    head = LogisticHead(np.full(256, 1e-3, np.float32), 0.0, 1.0, 0.5)
    export_onnx(
        Classifier(backbone, "mean", head, pixels),
        path,
        size=SIZE,
        class_names=("not crack", "crack"),
        tiles=TILES,
        metadata={},
        tolerance=1.0,
        most_map=1.0,
    )
    return _map(path)
