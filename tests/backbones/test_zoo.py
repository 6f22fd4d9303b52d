"""Networks of torchvision and timm: names, weights, heads, and that a cut is checked."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from finicky.backbones import Backbone, convolutions, load_backbone, save_backbone, zoo
from finicky.backbones.picks import ChannelPick
from finicky.errors import UnsupportedModelError, UsageError
from finicky.pruning import PruningPlan, cut_backbone, find_groups, plan_from_scores
from support import enliven, random_scores

if importlib.util.find_spec("timm") is None:
    pytest.skip("the zoo is missing: pip install .[zoo]", allow_module_level=True)
SIZE = 64


def _backbone(name: str) -> Backbone:
    backbone = load_backbone(name, weights="random")
    enliven(backbone.whole, SIZE)
    return backbone


def _plan(backbone: Backbone, ratio: float, round_to: int = 1) -> PruningPlan:
    return plan_from_scores(
        find_groups(backbone.module, SIZE),
        random_scores(backbone.module, SIZE),
        ratio,
        backbone=backbone.name,
        criterion="random",
        round_to=round_to,
    )


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("torchvision:resnet18", 11_689_512),  # published counts, the classifier included
        ("torchvision:squeezenet1_1", 1_235_496),
        ("torchvision:mobilenet_v3_small", 2_542_856),
    ],
)
def test_features_and_head_are_the_published_network(name: str, params: int) -> None:
    backbone = load_backbone(name, weights="random")
    assert sum(p.numel() for p in backbone.whole.parameters()) == params
    assert backbone.whole(torch.zeros(1, 3, SIZE, SIZE)).shape == (1, 1000)
    assert not any(p.requires_grad for p in backbone.whole.parameters())


def test_heads_for_training_only_are_left_out() -> None:
    names = [
        name
        for name, _ in load_backbone(
            "torchvision:googlenet", weights="random"
        ).whole.named_parameters()
    ]
    assert not [name for name in names if "aux" in name]


def test_standardised_weights_are_folded_and_answer_the_same(tmp_path: Path) -> None:
    source = zoo.fresh("timm:nf_resnet26", 5).eval()
    enliven(source, SIZE)
    torch.save(source.state_dict(), tmp_path / "x.pth")
    found = load_backbone("timm:nf_resnet26", weights=tmp_path / "x.pth")
    x = torch.rand(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(found.whole(x), source(x), rtol=1e-4, atol=1e-4)
    assert {type(c) for c in convolutions(found.module, SIZE).values()} == {nn.Conv2d}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("torchvision:resnet81", r"torchvision has no network 'resnet81'\. Did you mean resnet18"),
        ("timm:zzzzzz", r"timm has no network 'zzzzzz'\. \d+ names are known"),
        ("torchvision:", "torchvision has no network ''"),
    ],
)
def test_unknown_name_lists_the_nearest(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        load_backbone(name, weights="random")


def test_weights_must_be_named() -> None:
    with pytest.raises(UsageError, match="comes without weights: pass --weights FILE"):
        load_backbone("torchvision:resnet18")


def test_download_without_a_published_hash_is_refused() -> None:
    with pytest.raises(UsageError, match="published without a hash"):
        load_backbone("timm:convnextv2_atto", weights="download")


def test_checkpoint_with_its_own_number_of_classes_is_read(tmp_path: Path) -> None:
    source = zoo.fresh("timm:mobilenetv3_small_050", 7).eval()
    enliven(source, SIZE)
    path = tmp_path / "mine.pth"
    torch.save(source.state_dict(), path)
    found = load_backbone("timm:mobilenetv3_small_050", weights=path)
    x = torch.rand(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(found.whole(x), source(x))
    assert found.provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"fc.bias": None}, "lacks fc.bias"),
        ({"more": torch.zeros(1)}, "holds more, which is not in it"),
        ({"conv1.weight": torch.zeros(1)}, r"conv1.weight has shape \(1,\), expected"),
    ],
)
def test_checkpoint_of_another_network_is_refused(tmp_path: Path, change: dict, text: str) -> None:
    state = zoo.fresh("torchvision:resnet18", 1000).state_dict() | change
    torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "x.pth")
    with pytest.raises(UnsupportedModelError, match=f"x.pth is no checkpoint of resnet18.*{text}"):
        load_backbone("torchvision:resnet18", weights=tmp_path / "x.pth")


def test_transformer_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedModelError, match=r"vit_b_16 cannot be used: .*no feature map"):
        load_backbone("torchvision:vit_b_16", weights="random")


def test_shuffled_channels_are_cut_too() -> None:
    backbone = _backbone("torchvision:shufflenet_v2_x0_5")
    assert not any(g.whole for g in find_groups(backbone.module, SIZE))
    smaller = cut_backbone(backbone, _plan(backbone, 0.3).decisions, SIZE)
    picks = [m for m in smaller.module.modules() if isinstance(m, ChannelPick)]
    assert len(picks) > 16  # halves and shuffles
    for name, conv in convolutions(smaller.module, SIZE).items():
        assert conv.out_channels < backbone.module.get_submodule(name).out_channels, name


def test_channels_that_a_layer_mixes_stay() -> None:
    backbone = _backbone("timm:ecaresnet26t")  # convolutions across neighbouring channels
    whole = {g.root: g.whole for g in find_groups(backbone.module, SIZE) if g.whole}
    assert whole["layer1.0.conv3"] == "layer1.0.se.conv mixes neighbouring ones"
    plan = _plan(backbone, 0.3)
    smaller = cut_backbone(backbone, plan.decisions, SIZE)
    for name, conv in convolutions(smaller.module, SIZE).items():
        before = backbone.module.get_submodule(name).out_channels
        assert (conv.out_channels == before) == (name in whole), name


def test_shortcut_around_a_concatenation_ties_its_halves() -> None:
    backbone = _backbone("timm:ghostnet_050")
    tied = [g for g in find_groups(backbone.module, SIZE) if g.units.max() + 1 < g.size]
    assert tied
    plan = _plan(backbone, 0.3)
    for group in tied:
        kept = np.isin(np.arange(group.size), plan.kept[group.root])
        assert len(set(zip(group.units, kept, strict=True))) == group.units.max() + 1


# One of each kind of structure; the whole list is in benchmarks/coverage.py.
@pytest.mark.parametrize(
    "name",
    [
        "torchvision:resnet18",  # residual sums
        "torchvision:squeezenet1_1",  # concatenation, a convolution makes the classes
        "timm:regnetx_002",  # groups: whole ones
        "timm:mobilenetv3_small_050",  # squeeze-excitation, inverted bottlenecks
        "timm:convnextv2_atto",  # normalisation over channels, without batch normalisation
        "timm:resnest14d",  # splits in groups, softmax and sum over them
        "timm:hgnetv2_b0",  # something for nothing between convolutions
        "timm:cs3darknet_s",  # halves of a map
        "timm:edgenext_xx_small",  # attention across channels, which stay there and are cut around
    ],
)
def test_cut_network_keeps_its_classes_and_the_input_network(name: str) -> None:
    backbone = _backbone(name)
    before = {k: v.clone() for k, v in backbone.whole.state_dict().items()}
    smaller = cut_backbone(backbone, _plan(backbone, 0.3).decisions, SIZE)
    assert smaller.whole(torch.zeros(1, 3, SIZE, SIZE)).shape == (1, 1000)
    after = backbone.whole.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(type(m) is not None for m in backbone.whole.modules())


def test_few_channels_of_a_layer_normalisation_stay_in_order() -> None:
    """torch-pruning 1.6.1 shuffles them where few of many stay."""
    backbone = _backbone("timm:convnext_atto")
    name = next(iter(_plan(backbone, 0.1).decisions))
    kept = [3, 17, 38, 39]
    smaller = cut_backbone(backbone, {name: kept}, SIZE)
    pairs = zip(backbone.module.modules(), smaller.module.modules(), strict=True)
    old, new = next((a, b) for a, b in pairs if isinstance(a, nn.LayerNorm))
    assert torch.equal(old.weight[kept], new.weight)


@pytest.mark.parametrize("round_to", [1, 16])
def test_convolutions_in_groups_keep_whole_groups_or_equal_positions(round_to: int) -> None:
    backbone = _backbone("timm:regnetx_002")
    plan = _plan(backbone, 0.5, round_to)
    layers = convolutions(backbone.module, SIZE)
    grouped = {n: c for n, c in layers.items() if 1 < c.groups < c.out_channels}
    smaller = cut_backbone(backbone, plan.decisions, SIZE)
    ways = set()
    for name, conv in grouped.items():
        width = conv.out_channels // conv.groups
        kept = np.array(plan.kept[name])
        whole = conv.groups >= width
        ways.add(whole)
        every = np.arange(conv.out_channels)
        part = (lambda c, w=width: c // w) if whole else (lambda c, w=width: c % w)
        assert kept.tolist() == every[np.isin(part(every), part(kept))].tolist()
        cut = smaller.module.get_submodule(name)
        assert cut.in_channels == cut.out_channels == len(kept)
        assert cut.groups == (len(kept) // width if whole else conv.groups)
        assert type(cut) is nn.Conv2d
    assert ways == {True, False}


def test_pooled_convolutions_are_not_scored() -> None:
    backbone = _backbone("timm:mobilenetv3_small_050")
    groups = find_groups(backbone.module, SIZE)
    pooled = {p.name for g in groups for p in g.producers if p.pooled}
    assert pooled == {n for n in convolutions(backbone.module, SIZE) if ".se." in n}
    inner = [g for g in groups if g.is_pooled]
    assert inner  # ranked by the size of their weights, not left to chance
    assert all(len(set(g.magnitudes)) > 1 for g in inner)


CHILD = """
import sys, torch
from finicky.backbones import load_backbone
found = load_backbone(sys.argv[1])
torch.manual_seed(1)
torch.save(found.whole(torch.randn(2, 3, 64, 64)), sys.argv[2])
"""


def test_saved_zoo_network_is_built_again_in_a_fresh_process(tmp_path: Path) -> None:
    backbone = _backbone("timm:mobilenetv3_small_050")
    save_backbone(backbone, tmp_path / "mine")
    arguments = [str(tmp_path / "mine"), str(tmp_path / "out.pt")]
    subprocess.run([sys.executable, "-c", CHILD, *arguments], check=True)
    torch.manual_seed(1)
    with torch.inference_mode():
        expected = backbone.whole(torch.randn(2, 3, SIZE, SIZE))
    assert torch.equal(torch.load(tmp_path / "out.pt", weights_only=True), expected)
