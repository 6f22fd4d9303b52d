"""Networks that end early: where they can, and that they are backbones like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finicky.backbones import Blueprint, build, convolutions, load_backbone
from finicky.backbones.truncation import ends, truncate
from finicky.errors import DataError, UnsupportedModelError, UsageError
from finicky.pruning import cut_backbone, find_groups, plan_from_scores, restore, save_pruned

SIZE = 64


def test_a_chain_can_end_after_each_activation_before_what_pools() -> None:
    module = load_backbone("vgg16", weights="random").module
    found = ends(module, SIZE)
    assert list(found) == list(convolutions(module, SIZE))
    assert found["block1_conv2"] == 4  # two convolutions and their activations, no pooling
    assert found["block5_conv3"] == len(module)  # type: ignore[arg-type]


def test_blocks_can_only_end_whole() -> None:
    found = ends(load_backbone("efficientnet-lite0", weights="random").module, SIZE)
    assert list(found)[:2] == ["stem", "block0.layers.project"]
    assert found["stem"] == 3  # with its normalisation and activation


def test_a_network_that_is_no_sequence_is_refused() -> None:
    backbone = load_backbone("torchvision:resnet18", weights="random")
    assert ends(backbone.module, SIZE) == {}
    with pytest.raises(UnsupportedModelError, match="no sequence of parts"):
        truncate(backbone, "layer1.0.conv1")


def test_unknown_end_lists_where_it_can_end() -> None:
    backbone = load_backbone("alexnet", weights="random")
    with pytest.raises(UsageError, match=r"cannot end after 'conv9'.*conv1, conv2, conv3"):
        truncate(backbone, "conv9")


def test_what_is_left_answers_as_before_and_the_whole_is_untouched() -> None:
    backbone = load_backbone("alexnet", weights="random")
    x = torch.rand(2, 3, SIZE, SIZE)
    expected = backbone.module[:5](x)  # type: ignore[index]
    shorter = truncate(backbone, "conv2")
    assert torch.equal(shorter.module(x), expected)
    assert len(backbone.module) > 5  # type: ignore[arg-type]
    assert shorter.head is None


def test_a_truncated_network_is_cut_saved_and_restored_bit_for_bit(tmp_path: Path) -> None:
    shorter = truncate(load_backbone("alexnet", weights="random"), "conv3")
    groups = find_groups(shorter.module, SIZE)
    plan = plan_from_scores(groups, {}, 0.1, backbone=shorter.name, criterion="none")
    assert list(plan.kept) == ["conv1", "conv2", "conv3"]
    smaller = cut_backbone(shorter, plan.decisions, SIZE)
    save_pruned(smaller, plan, tmp_path, size=SIZE)
    again, _ = restore(tmp_path)
    x = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(again.module(x), smaller.module(x))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"kind": "truncated", "spec": {}, "parts": 1},
        {"kind": "builtin", "spec": {"name": "alexnet"}, "parts": 0},
        {"kind": "builtin", "spec": {"name": "alexnet"}, "parts": 1000},
        {"kind": "builtin", "spec": {"name": "alexnet"}, "parts": "2"},
    ],
)
def test_a_blueprint_that_makes_no_sense_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(DataError, match="truncated network"):
        build(Blueprint("truncated", spec))
