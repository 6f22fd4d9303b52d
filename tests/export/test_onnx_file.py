"""The exported file computes what PyTorch computes, and the check would notice if not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from finicky.backbones import Backbone, load_backbone
from finicky.errors import FinickyError
from finicky.export import Classifier, check_parity, export_onnx, read_metadata
from finicky.training import Features, LogisticHead, PixelHead
from support import require_shipped_weights

SIZE = 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("vgg16", "mean+max"),
        ("vgg16", "flat"),
        ("alexnet-bn", "flat"),
        ("efficientnet-lite0", "mean+max"),
    ],
)
def test_exported_file_agrees_with_pytorch(name: str, kind: str, tmp_path: Path) -> None:
    # Deep networks with random weights answer every tile alike: their logits are rounding errors.
    if name == "alexnet-bn":
        backbone = load_backbone(name, weights="random")
    else:
        require_shipped_weights()
        backbone = load_backbone(name)
    classifier, tiles = _classifier(backbone, kind)
    parity = _export(classifier, tmp_path / "model.onnx", tiles)
    assert parity.same_class
    assert parity.difference <= 1e-5
    assert parity.tiles == len(tiles)


def test_file_takes_bytes_in_any_number_and_gives_named_probabilities(tmp_path: Path) -> None:
    classifier, tiles = _classifier(load_backbone("alexnet", weights="random"), "mean")
    path = tmp_path / "model.onnx"
    _export(classifier, path, tiles)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (entry,), (out,) = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.type, entry.shape[1:]) == ("tiles", "tensor(uint8)", [SIZE, SIZE, 3])
    assert out.name == "probabilities"
    for count in (1, 5):
        (found,) = session.run(None, {"tiles": tiles[:count]})
        assert found.shape == (count, 2)
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    note = read_metadata(path)
    assert note["classes"] == ["not crack", "crack"]
    assert note["tile_px"] == SIZE
    assert note["keep_ratio"] == 0.5


def test_probabilities_are_those_of_backbone_features_and_head(tmp_path: Path) -> None:
    backbone = load_backbone("alexnet", weights="random")
    classifier, tiles = _classifier(backbone, "mean+max")
    path = tmp_path / "model.onnx"
    _export(classifier, path, tiles)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"tiles": tiles})[0][:, 1]
    with torch.inference_mode():
        maps = backbone.module(backbone.preprocessing(torch.from_numpy(tiles)))
        features = Features("mean+max")(maps).numpy()
    np.testing.assert_allclose(
        found, _head(backbone, "mean+max", tiles).probabilities(features), rtol=1e-4, atol=1e-6
    )


def _one_weight_one_percent_up(model: onnx.ModelProto) -> None:
    weight = next(t for t in model.graph.initializer if list(t.dims) == [64, 3, 11, 11])
    values = numpy_helper.to_array(weight).copy()
    values.flat[np.abs(values).argmax()] *= 1.01
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def _means_swapped(model: onnx.ModelProto) -> None:
    mean = next(t for t in model.graph.initializer if list(t.dims) == [1, 3, 1, 1])
    values = numpy_helper.to_array(mean)[:, ::-1].copy()
    mean.CopyFrom(numpy_helper.from_array(values, mean.name))


@pytest.mark.parametrize("change", [_one_weight_one_percent_up, _means_swapped])
def test_parity_check_notices(change, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Negative controls: a check that passes everything checks nothing."""
    classifier, tiles = _classifier(load_backbone("alexnet", weights="random"), "mean")
    path = tmp_path / "model.onnx"
    _export(classifier, path, tiles)
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    assert not check_parity(classifier, path, tiles).within(1e-4)


def test_file_does_not_tell_where_it_was_made(tmp_path: Path) -> None:
    """Torch's exporter notes for each node which line of which file it came from."""
    path = tmp_path / "model.onnx"
    classifier, tiles = _classifier(load_backbone("alexnet", weights="random"), "mean")
    _export(classifier, path, tiles)
    model = onnx.load(path)
    graph = model.graph
    assert not any(node.metadata_props or node.doc_string for node in graph.node)
    assert not any(v.metadata_props for v in (*graph.value_info, *graph.input, *graph.output))
    assert b".py" not in path.read_bytes()


def test_disagreement_leaves_no_file(tmp_path: Path) -> None:
    classifier, tiles = _classifier(load_backbone("alexnet", weights="random"), "mean")
    with pytest.raises(FinickyError, match=r"model\.onnx disagrees with PyTorch: difference"):
        _export(classifier, tmp_path / "model.onnx", tiles, tolerance=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_foreign_file_has_no_metadata_of_ours(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(FinickyError, match="not one of our exports"):
        read_metadata(tmp_path / "other.onnx")


def test_map_of_a_pale_tile_survives_how_a_runtime_sums(tmp_path: Path) -> None:
    """Hardly any contrast on a bright ground: digits lost in the tile's mean would show."""
    backbone = load_backbone("alexnet", weights="random")
    tiles = np.random.default_rng(0).integers(249, 252, (8, 96, 96, 3), dtype=np.uint8)
    one = np.ones(1, np.float32)
    weight = np.zeros((1, 7), np.float32)
    weight[0, -1] = 3
    pixels = PixelHead(("(photo)",), (weight,), 5 * one, one, -5.0, 96, 96)
    head = _head(backbone, "mean", tiles)
    path = tmp_path / "model.onnx"
    export_onnx(
        Classifier(backbone, "mean", head, pixels),
        path,
        size=96,
        class_names=("not crack", "crack"),
        tiles=tiles,
        metadata={},
        tolerance=1.0,
    )
    parity = check_parity(Classifier(backbone, "mean", head, pixels), path, tiles)
    assert parity.map_difference is not None
    assert parity.map_difference <= 1e-5


def _classifier(backbone: Backbone, kind: str) -> tuple[Classifier, np.ndarray]:
    tiles = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    return Classifier(backbone, kind, _head(backbone, kind, tiles)), tiles  # type: ignore[arg-type]


def _head(backbone: Backbone, kind: str, tiles: np.ndarray) -> LogisticHead:
    """A head that tells the tiles apart: logits of several units, as trained ones have."""
    with torch.inference_mode():
        maps = backbone.module(backbone.preprocessing(torch.from_numpy(tiles)))
        features = Features(kind)(maps).double().numpy()  # type: ignore[arg-type]
    weight = np.random.default_rng(1).normal(size=features.shape[1])
    logits = features @ weight
    weight *= 3 / logits.std()
    bias = -float((features @ weight).mean())
    return LogisticHead(weight.astype(np.float32), bias, 1.0, 0.5)


def _export(classifier: Classifier, path: Path, tiles: np.ndarray, tolerance: float = 1e-5):  # type: ignore[no-untyped-def]
    return export_onnx(
        classifier,
        path,
        size=SIZE,
        class_names=("not crack", "crack"),
        tiles=tiles,
        metadata={"keep_ratio": 0.5},
        tolerance=tolerance,
    )
