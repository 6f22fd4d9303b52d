"""Parity from the image file on, also where photos are grey and cannot tell red from blue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from finicky.backbones import load_backbone
from finicky.export import Classifier, export_onnx
from finicky.export.parity import Verification, is_grey, tinted, verify
from finicky.training import Features, LogisticHead, PixelHead

SIZE = 64
RANDOM = np.random.default_rng(0)
GREY = np.repeat(RANDOM.integers(0, 256, (40, SIZE, SIZE, 1), dtype=np.uint8), 3, axis=3)


def _classifier() -> Classifier:
    backbone = load_backbone("alexnet", weights="random")
    with torch.inference_mode():
        maps = backbone.module(backbone.preprocessing(torch.from_numpy(GREY[:8])))
        features = Features("mean")(maps).double().numpy()
    weight = np.random.default_rng(1).normal(size=features.shape[1])
    weight *= 3 / (features @ weight).std()
    head = LogisticHead(weight.astype(np.float32), -float((features @ weight).mean()), 1.0, 0.5)
    one, dark = np.ones(1, np.float32), np.zeros((1, 7), np.float32)
    dark[0, -1] = 3  # by brightness alone, which does not see colours
    pixels = PixelHead(("(photo)",), (dark,), 5 * one, one, -5.0, SIZE, SIZE)
    return Classifier(backbone, "mean", head, pixels)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return _classifier()


@pytest.fixture(scope="module")
def model(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parity") / "model.onnx"
    export_onnx(
        classifier,
        path,
        size=SIZE,
        class_names=("not crack", "crack"),
        tiles=GREY[:4],
        metadata={},
        tolerance=1.0,
    )
    return path


def _verify(classifier: Classifier, model: Path, tiles: np.ndarray, folder: Path) -> Verification:
    files = [folder / f"{number}.png" for number in range(len(tiles))]
    for path, tile in zip(files, tiles, strict=True):
        Image.fromarray(tile).save(path)
    return verify(classifier, model, files, tiles)


def test_grey_tiles_are_compared_and_every_mistake_is_noticed(
    classifier: Classifier, model: Path, tmp_path: Path
) -> None:
    found = _verify(classifier, model, GREY, tmp_path)
    assert (found.tiles, found.tinted) == (40, 32)
    assert found.exact
    assert found.controls_found == len(found.controls) == 4


def test_one_coloured_tile_does_not_pass_for_colour(
    classifier: Classifier, model: Path, tmp_path: Path
) -> None:
    tiles = GREY.copy()
    tiles[0, 0, 0] = (255, 0, 0)
    tiles[20:, :, :, 2] ^= 1  # as JPEG leaves grey photos: a level off
    tiles[:15] = 0  # black, as outside of a scan
    found = _verify(classifier, model, tiles, tmp_path)
    assert found.tinted == 32
    assert found.controls_found == 4


def test_colours_are_compared_as_they_are(
    classifier: Classifier, model: Path, tmp_path: Path
) -> None:
    colourful = RANDOM.integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    found = _verify(classifier, model, colourful, tmp_path)
    assert (found.tiles, found.tinted, found.controls_found) == (3, 0, 4)


def test_file_that_swaps_red_and_blue_is_found_out_on_grey_tiles(
    classifier: Classifier, model: Path, tmp_path: Path
) -> None:
    wrong = onnx.load(model)
    for value in wrong.graph.initializer:
        if list(value.dims) in ([64, 3, 11, 11], [1, 3, 1, 1]):
            swapped = numpy_helper.to_array(value)[:, ::-1].copy()
            value.CopyFrom(numpy_helper.from_array(swapped, value.name))
    onnx.save(wrong, tmp_path / "swapped.onnx")
    found = _verify(classifier, tmp_path / "swapped.onnx", GREY, tmp_path)
    assert not found.exact
    assert found.difference > 1e-3


def test_tint_makes_grey_coloured_from_black_to_white() -> None:
    levels = np.arange(256, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    assert is_grey(levels)
    found = tinted(levels).reshape(256, 3).astype(int)
    assert (found[:, 0] - found[:, 2]).min() >= 37
    assert (np.diff(found[:, 0]) >= 0).all()
