"""Plans and weights on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from finicky.backbones import convolutions, load_backbone
from finicky.errors import DataError
from finicky.pruning import cut, find_groups, plan_from_scores, restore, save_pruned

SIZE = 64
CHILD = """
import sys, torch
from finicky.pruning import restore
backbone, plan = restore(sys.argv[1])
torch.manual_seed(1)
torch.save(backbone.module(torch.randn(3, 3, 64, 64)), sys.argv[2])
"""


@pytest.mark.parametrize("name", ["vgg16", "efficientnet-lite0", "alexnet-bn"])
def test_restored_in_a_fresh_process_outputs_are_bit_equal(name: str, tmp_path: Path) -> None:
    module = _saved(tmp_path / "pruned", name)
    output = tmp_path / "output.pt"
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "pruned"), str(output)], check=True)
    torch.manual_seed(1)
    with torch.inference_mode():
        expected = module(torch.randn(3, 3, SIZE, SIZE))
    assert torch.equal(torch.load(output, weights_only=True), expected)


def test_plan_maps_every_convolution_in_forward_order_to_its_channels(tmp_path: Path) -> None:
    _saved(tmp_path, "efficientnet-lite0")
    kept = json.loads((tmp_path / "plan.json").read_text())["kept"]
    module = load_backbone("efficientnet-lite0", weights="random").module
    assert list(kept) == list(convolutions(module, SIZE))
    restored = restore(tmp_path)[0].module
    for name, conv in convolutions(restored, SIZE).items():
        assert conv.out_channels == len(kept[name])
        assert kept[name] == sorted(set(kept[name]))


def test_nothing_on_disk_is_a_pickle(tmp_path: Path) -> None:
    _saved(tmp_path, "alexnet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "plan.json"]
    assert (tmp_path / "model.safetensors").read_bytes()[8:9] == b"{"


def test_flipped_byte_is_found(tmp_path: Path) -> None:
    _saved(tmp_path, "alexnet")
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors is not the file .* hash differs"):
        restore(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": "other"}, "is no pruning plan"),
        ({"version": 99}, "has version 99, this Finicky reads 1: update Finicky"),
        ({"kept": 7}, "is damaged: AttributeError"),
        ({"kept": {"conv1": ["x"]}}, "is damaged: ValueError"),
        ({"roots": ["nowhere"]}, "root nowhere has no kept channels"),
        (
            {"blueprint": {"kind": "builtin", "spec": {"name": "of-mine"}, "blob_sha256": None}},
            "of-mine, which is not built in",
        ),
        (
            {"blueprint": {"kind": "magic", "spec": {}, "blob_sha256": None}},
            "no network of kind 'magic' is known, only builtin",
        ),
        ({"blueprint": 7}, "is damaged: its blueprint lacks"),
    ],
)
def test_damaged_plan_is_one_clear_line(tmp_path: Path, change: dict, text: str) -> None:
    _saved(tmp_path, "alexnet")
    value = json.loads((tmp_path / "plan.json").read_text()) | change
    (tmp_path / "plan.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=text):
        restore(tmp_path)


def test_truncated_files_are_one_clear_line(tmp_path: Path) -> None:
    _saved(tmp_path, "alexnet")
    plan = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(plan[: len(plan) // 2])
    with pytest.raises(DataError, match=r"plan\.json is not valid JSON"):
        restore(tmp_path)
    (tmp_path / "plan.json").write_text(plan)
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:1000])
    with pytest.raises(DataError, match="is not a safetensors file"):
        restore(tmp_path)


def _saved(folder: Path, name: str) -> torch.nn.Module:
    backbone = load_backbone(name, weights="random")
    random = np.random.default_rng(0)
    layers = convolutions(backbone.module, SIZE)
    scores = {n: random.random(c.out_channels) for n, c in layers.items()}
    groups = find_groups(backbone.module, SIZE)
    plan = plan_from_scores(groups, scores, 0.1, backbone=name, criterion="random")
    smaller = backbone.with_module(cut(backbone.module, plan.decisions, SIZE))
    save_pruned(smaller, plan, folder, size=SIZE)
    return smaller.module
