"""Zoo networks, cut to a tenth: restored and exported. Long list: benchmarks/coverage.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from finicky.backbones import load_backbone
from finicky.export import export_onnx
from finicky.export.classifier import Classifier
from finicky.pruning import cut_backbone, find_groups, plan_from_scores, restore, save_pruned
from finicky.training import Features, LogisticHead
from support import enliven, random_scores

if importlib.util.find_spec("timm") is None:
    pytest.skip("the zoo is missing: pip install .[zoo]", allow_module_level=True)
SIZE = 64


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:resnet18",
        "torchvision:shufflenet_v2_x0_5",
        "timm:cs3darknet_s",  # halves
        "timm:mobilenetv3_small_050",
        "timm:regnetx_002",
        "timm:convnextv2_atto",
    ],
)
def test_cut_network_is_restored_bit_equal_and_its_onnx_file_agrees(
    name: str, tmp_path: Path
) -> None:
    backbone = load_backbone(name, weights="random")
    enliven(backbone.whole, SIZE)
    scores = random_scores(backbone.module, SIZE)
    groups = find_groups(backbone.module, SIZE)
    plan = plan_from_scores(groups, scores, 0.1, backbone=name, criterion="random")
    smaller = cut_backbone(backbone, plan.decisions, SIZE)
    save_pruned(smaller, plan, tmp_path, size=SIZE)
    restored, _ = restore(tmp_path)
    tiles = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    inputs = backbone.preprocessing(torch.from_numpy(tiles))
    with torch.inference_mode():
        assert torch.equal(restored.module(inputs), smaller.module(inputs))
        assert torch.equal(restored.whole(inputs), smaller.whole(inputs))
        vectors = Features("mean")(smaller.module(inputs)).numpy()
    weight = np.random.default_rng(0).normal(size=vectors.shape[1])
    weight = np.float32(weight * 2 / np.abs(vectors @ weight).max())
    mine = Classifier(restored, "mean", LogisticHead(weight, 0.0, 1.0, 0.0))
    parity = export_onnx(
        mine, tmp_path / "x.onnx", size=SIZE, class_names=("no", "yes"), tiles=tiles, metadata={}
    )
    assert parity.within(1e-5)
