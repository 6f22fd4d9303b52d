"""What Finicky exported is a backbone again, and can be cut further."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import finicky
from finicky.backbones import load_backbone
from finicky.errors import UnsupportedModelError
from finicky.pruning import cut_backbone, find_groups, plan_from_scores, restore, save_pruned

# Takes bytes in RGB, turns them to BGR, has a second output with operators of its own.
SHIPPED = Path(finicky.__file__).parent / "models" / "crack-vgg16" / "model.onnx"


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)


def test_the_shipped_model_answers_as_onnx_runtime(photos: np.ndarray) -> None:
    backbone = load_backbone(SHIPPED)
    session = onnxruntime.InferenceSession(str(SHIPPED), providers=["CPUExecutionProvider"])
    wanted = session.run(["probabilities"], {"tiles": photos})[0]
    with torch.inference_mode():
        found = backbone.whole(backbone.preprocessing(torch.from_numpy(photos))).numpy()
    assert np.abs(found - wanted).max() <= 1e-5
    assert "scales bytes itself" in backbone.preprocessing.origin


def test_it_is_cut_again_and_restored_bit_equal(photos: np.ndarray, tmp_path: Path) -> None:
    backbone = load_backbone(SHIPPED)
    groups = find_groups(backbone.module, 96)
    random = np.random.default_rng(0)
    scores = {p.name: random.random(p.channels.max() + 1) for g in groups for p in g.producers}
    plan = plan_from_scores(groups, scores, 0.5, backbone=backbone.name, criterion="random")
    smaller = cut_backbone(backbone, plan.decisions, 96)
    assert smaller.module(torch.zeros(1, 3, 96, 96)).shape[1] == 40
    save_pruned(smaller, plan, tmp_path / "cut", size=96)
    again = restore(tmp_path / "cut")[0]
    x = backbone.preprocessing(torch.from_numpy(photos))
    with torch.inference_mode():
        assert torch.equal(again.whole(x), smaller.whole(x))


def _turned(index: list) -> bytes:
    """Axes turned, picked from the first, and turned back, around one convolution."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2, 3]),
        helper.make_node("GatherND", ["turned", "index"], ["picked"], name="pick"),
        helper.make_node("Transpose", ["picked"], ["back"], perm=[1, 0, 2, 3]),
        helper.make_node("Conv", ["back", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    stored = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.array(index, np.int64), "index"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [value("y", TensorProto.FLOAT, None)], stored,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_any_order_of_colours_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(_turned([[1], [-1], [0]]))
    backbone = load_backbone(tmp_path / "m.onnx")
    x = torch.rand(1, 3, 32, 32)
    conv = next(m for m in backbone.module.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.inference_mode():
        wanted = conv(x[:, [1, 2, 0]])
        torch.testing.assert_close(backbone.module(x), wanted, rtol=1e-5, atol=1e-6)


def test_other_uses_of_gather_nd_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(_turned([[[1, 0]], [[2, 0]], [[0, 0]]]))
    with pytest.raises(UnsupportedModelError, match=r"operator GatherND \(pick\) picks single"):
        load_backbone(tmp_path / "m.onnx")
