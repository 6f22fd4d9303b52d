"""A folder that was pruned is a backbone, and can be pruned further."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.onnx_networks import export, small
from finicky.backbones import Backbone, load_backbone
from finicky.errors import DataError
from finicky.pruning import cut_backbone, find_groups, plan_from_scores, restore, save_pruned


def _halve(backbone: Backbone, folder: Path, seed: int) -> Backbone:
    groups = find_groups(backbone.module, 64)
    random = np.random.default_rng(seed)
    scores = {p.name: random.random(p.channels.max() + 1) for g in groups for p in g.producers}
    plan = plan_from_scores(groups, scores, 0.5, backbone=backbone.name, criterion="random")
    smaller = cut_backbone(backbone, plan.decisions, 64)
    save_pruned(smaller, plan, folder, size=64)
    return smaller


@pytest.mark.parametrize("kind", ["builtin", "onnx"])
def test_cut_twice_and_thrice_and_restored_bit_equal(tmp_path: Path, kind: str) -> None:
    if kind == "onnx":
        name: str | Path = export(small(), tmp_path / "n.onnx", opset=17, dynamo=False)
        backbone = load_backbone(name)
    else:
        backbone = load_backbone("alexnet-bn", weights="random")
    for number in range(3):
        backbone = _halve(backbone, tmp_path / f"cut{number}", number)
        again = load_backbone(tmp_path / f"cut{number}")
        x = torch.rand(2, 3, 64, 64)
        assert torch.equal(again.whole(x), backbone.whole(x))
        assert (again.head is None) == (kind == "builtin")
        assert again.provenance == backbone.provenance
        backbone = again
    left = backbone.module(torch.zeros(1, 3, 64, 64)).shape[1]
    assert left == {"builtin": 256 // 8, "onnx": 2 * 2}[kind]  # two branches of 12, 6, 3, 2


def test_restored_in_another_process(tmp_path: Path) -> None:
    first = _halve(load_backbone("alexnet-bn", weights="random"), tmp_path / "a", 0)
    second = _halve(load_backbone(tmp_path / "a"), tmp_path / "b", 1)
    assert first.name == "alexnet-bn"
    x = torch.rand(1, 3, 64, 64)
    np.save(tmp_path / "x.npy", x.numpy())
    code = (
        "import sys, numpy as np, torch; from pathlib import Path; "
        "from finicky.pruning import restore; p = Path(sys.argv[1]); "
        "y = restore(p / 'b')[0].module(torch.from_numpy(np.load(p / 'x.npy'))); "
        "np.save(p / 'y.npy', y.numpy())"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert np.array_equal(np.load(tmp_path / "y.npy"), second.module(x).numpy())


def test_a_damaged_blueprint_is_one_line(tmp_path: Path) -> None:
    _halve(load_backbone("alexnet-bn", weights="random"), tmp_path / "a", 0)
    _halve(load_backbone(tmp_path / "a"), tmp_path / "b", 1)
    plan = tmp_path / "b" / "plan.json"
    plan.write_text(plan.read_text().replace('"decisions"', '"decision"'))
    with pytest.raises(DataError, match="blueprint of the pruned network is damaged"):
        restore(tmp_path / "b")
