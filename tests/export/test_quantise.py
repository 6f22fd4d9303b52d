"""8 bits: the runtime really computes in them, and every limit that is missed has its words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from finicky.backbones import Backbone, load_backbone
from finicky.errors import FinickyError
from finicky.export import Classifier, export_onnx, int8
from finicky.export import quantise as quantise_module
from finicky.export.answers import Answers, ask_onnx
from finicky.export.int8 import Judgement, Labelled, Limits, Quantised, make_int8
from finicky.export.quantise import RECIPES, Recipe, branches, quantise, response_bytes
from finicky.training import LogisticHead, PixelHead

SIZE = 64
TILES = np.random.default_rng(0).integers(0, 256, (100, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("mapped", [False, True])
def test_every_convolution_of_the_network_runs_in_8_bits(mapped: bool, tmp_path: Path) -> None:
    """With a map each response has two readers; ONNX Runtime then left them all in float."""
    model, small, seen = (tmp_path / n for n in ("model.onnx", "small.onnx", "seen.onnx"))
    _write(model, mapped)
    assert branches(model) == mapped
    quantise(model, small, TILES, RECIPES[0])
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(seen)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(seen).graph.node)
    assert kinds["QLinearConv"] == 5
    # What the map needs stays in float: one 1x1 convolution a tap, and the last.
    assert kinds["Conv"] + kinds["FusedConv"] == (3 if mapped else 0)


@pytest.mark.parametrize("count", [37, 100])
def test_percentiles_take_any_number_of_tiles_and_as_many_as_fit(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They failed on a last batch that was smaller than the others."""
    model, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    _write(model, mapped=False)
    seen = []

    class Reader(quantise_module._Reader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            block = super().get_next()
            seen.append(0 if block is None else len(block["tiles"]))
            return block

    monkeypatch.setattr(quantise_module, "_Reader", Reader)
    monkeypatch.setattr(quantise_module, "MOST_BYTES", 50 * response_bytes(model))
    quantise(model, small, TILES[:count], RECIPES[2])
    assert sum(seen) == min(count, 50)
    assert ask_onnx(small, TILES[:3]).probabilities.shape == (3, 2)


def test_recipe_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was left without its figures, and export ended in a KeyError."""
    model, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    _write(model, mapped=False)

    def only_minmax(model: Path, out: Path, tiles: np.ndarray, recipe: Recipe) -> None:
        if recipe.ranges != "minmax":
            raise FinickyError("quantising model.onnx failed: no percentiles today")
        quantise(model, out, tiles, recipe)

    monkeypatch.setattr(int8, "quantise", only_minmax)
    labelled = Labelled(TILES[:4], np.array([0, 1, 0, 1]), np.arange(4))
    # The opposite of what the network says, so that every recipe is tried.
    expected = Answers(ask_onnx(model, labelled.tiles).probabilities[:, ::-1], None)

    def make(recipes: tuple[Recipe, ...]) -> Quantised:
        return make_int8(
            model,
            small,
            calibration=TILES[:20],
            validation=labelled,
            expected=expected,
            limits=Limits(tile=0.5),
            recipes=recipes,
        )

    made = make((RECIPES[2], RECIPES[0], RECIPES[3]))
    assert made.chosen.recipe == RECIPES[0]
    small.unlink()
    with pytest.raises(FinickyError, match="no percentiles today"):
        make((RECIPES[2],))
    assert not small.exists()


def test_missed_limits_are_named() -> None:
    good = Judgement(agreement=0.995, cells=0.99, accuracy=0.9, drop=0.01)
    assert good.good
    assert good.failures == []
    bad = Judgement(agreement=0.985, cells=0.98, accuracy=0.8, drop=0.02)
    assert not bad.good
    assert bad.failures == [
        "same class on 98.5% of tiles (99 % needed)",
        "same side on 98.0% of map cells (99 % needed)",
        "accuracy 2.0 points lower (1 allowed)",
    ]


def _write(path: Path, mapped: bool) -> None:
    backbone = load_backbone("alexnet", weights="random")
    head = LogisticHead(np.full(256, 1e-3, np.float32), 0.0, 1.0, 0.5)
    export_onnx(
        Classifier(backbone, "mean", head, _pixels(backbone) if mapped else None),
        path,
        size=SIZE,
        class_names=("not crack", "crack"),
        tiles=TILES[:4],
        metadata={},
        tolerance=1.0,
    )


def _pixels(backbone: Backbone) -> PixelHead:
    random = np.random.default_rng(1)
    taps = ("conv1", "conv4")
    weights = tuple(
        random.normal(0, 0.1, (4, backbone.module.get_submodule(tap).out_channels)).astype(  # type: ignore[operator]
            np.float32
        )
        for tap in taps
    )
    one = np.ones(4, np.float32)
    return PixelHead(taps, weights, one, one, 0.0, SIZE, 15)
