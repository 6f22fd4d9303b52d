"""Many cuts of one network: the same as torch-pruning's, bit for bit, and as strictly checked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import finicky
from finicky.backbones import Backbone, load_backbone
from finicky.errors import FinickyError, UnsupportedModelError, UsageError
from finicky.pruning import Cutter, PruningPlan, count, cut_backbone, find_groups, plan_from_scores
from finicky.pruning import slicing as slicing_module
from support import enliven, random_scores

SIZE = 64


def _enlivened(name: str) -> Backbone:
    backbone = load_backbone(name, weights="random")
    for parameter in backbone.whole.parameters():
        parameter.requires_grad_(False)
    enliven(backbone.module, max(SIZE, backbone.min_size))
    return backbone


def _plans(backbone: Backbone, *ratios: float) -> list[PruningPlan]:
    groups = find_groups(backbone.module, SIZE)
    scores = random_scores(backbone.module, SIZE)
    return [
        plan_from_scores(groups, scores, ratio, backbone=backbone.name, criterion="drawn")
        for ratio in ratios
    ]


def _same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    inputs = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        answers = torch.equal(one(inputs), other(inputs))
    return (
        answers
        and list(first) == list(second)
        and all(torch.equal(first[name], second[name]) for name in first)
    )


@pytest.mark.parametrize(
    "name",
    [
        *("alexnet-bn", "efficientnet-lite0"),
        *("torchvision:regnet_y_400mf", "torchvision:shufflenet_v2_x0_5", "timm:convnextv2_atto"),
    ],
)
def test_slices_equal_the_cuts_of_torch_pruning_bit_for_bit(name: str) -> None:
    """Depthwise, grouped and shuffled convolutions, normalisations, scales, and classifiers."""
    if ":" in name and importlib.util.find_spec("timm") is None:
        pytest.skip("the zoo is missing: pip install .[zoo]")
    backbone = _enlivened(name)
    cutter = Cutter(backbone, SIZE)
    assert not cutter.unknown
    for plan in _plans(backbone, 0.5, 0.1):
        expected = cut_backbone(backbone, plan.decisions, SIZE)
        found = cutter.cut(plan.decisions)
        assert _same(found.whole, expected.whole)
        assert cutter.counts(plan.decisions, 96) == count(expected.module, 96)
    cutter.check_unchanged()


def test_slices_may_come_in_any_order() -> None:
    backbone = _enlivened("alexnet-bn")
    small, large = _plans(backbone, 0.1, 0.9)
    cutter = Cutter(backbone, SIZE)
    first = cutter.cut(small.decisions)
    cutter.cut(large.decisions)
    assert _same(cutter.cut(small.decisions).module, first.module)


class _Odd(nn.BatchNorm2d):
    """A normalisation with a number of its own for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("odd", torch.arange(channels).float())


def test_layer_that_is_not_known_is_left_to_torch_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = _enlivened("alexnet-bn")
    plan = _plans(backbone, 0.3)[0]
    assert slicing_module._slicer(_Odd(4)) is None
    expected = cut_backbone(backbone, plan.decisions, SIZE)
    known = slicing_module._slicer
    monkeypatch.setattr(
        slicing_module, "_slicer", lambda m: None if isinstance(m, nn.BatchNorm2d) else known(m)
    )
    cutter = Cutter(backbone, SIZE)
    assert cutter.unknown == "bn1"
    assert _same(cutter.cut(plan.decisions).module, expected.module)


def test_wrong_slice_is_found_and_torch_pruning_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slicer that keeps the wrong statistics passes every count, and not the comparison."""
    backbone = _enlivened("alexnet-bn")
    plan = _plans(backbone, 0.3)[0]
    right = slicing_module._batch_norm

    def wrong(layer: nn.Module, lost: dict[str, np.ndarray]) -> slicing_module._Slice:
        found = right(layer, lost)
        found.tensors["running_mean"] = found.tensors["running_mean"].flip(0)
        return found

    monkeypatch.setattr(slicing_module, "_batch_norm", wrong)
    cutter = Cutter(backbone, SIZE)
    found = cutter.cut(plan.decisions)
    assert "answers differ" in cutter.unknown
    assert _same(found.module, cut_backbone(backbone, plan.decisions, SIZE).module)


def test_network_that_changes_under_the_cutter_is_noticed() -> None:
    backbone = _enlivened("alexnet-bn")
    cutter = Cutter(backbone, SIZE)
    with torch.no_grad():
        backbone.module.conv1.weight[0, 0, 0, 0] += 1  # type: ignore[union-attr, operator, index]
    with pytest.raises(FinickyError, match="changed the network"):
        cutter.check_unchanged()


def test_plan_of_another_network_is_refused_by_name() -> None:
    cutter = Cutter(_enlivened("alexnet-bn"), SIZE)
    with pytest.raises(UsageError, match="cuts conv9, which this network does not have"):
        cutter.cut({"conv9": [0]})
    with pytest.raises(UsageError, match="conv1 has channels 0 to"):
        cutter.cut({"conv1": [999]})


def test_family_equals_the_networks_cut_one_by_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            shape = (96, 96, 3) if folder == "photos" else (96, 96)
            pixels = random.integers(0, 256 if folder == "photos" else 2, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    where = (tmp_path / "photos", tmp_path / "masks")
    backbone = load_backbone("alexnet", weights="random")
    ratios = (0.5, 0.1)
    family = list(finicky.prune_many(backbone, *where, keep_ratios=ratios, input_size=96))
    assert [model.plan.keep_ratio for model in family] == list(ratios)
    for model in family:
        alone = finicky.prune(backbone, *where, keep_ratio=model.plan.keep_ratio, input_size=96)
        assert model.plan == alone.plan
        assert model.after == alone.after == count(model.module, 96)
        assert _same(model.module, alone.module)
        model.save(tmp_path / "out")
        assert _same(finicky.load(tmp_path / "out").module, model.module)


def test_bad_ratio_among_good_ones_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"got 20\. Did you mean 0\.2"):
        finicky.prune_many("vgg16", tmp_path / "no", tmp_path / "no", keep_ratios=(0.1, 20))


def test_original_method_on_no_chain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="plain chains"):
        finicky.prune_many(
            load_backbone("efficientnet-lite0", weights="random"),
            *(tmp_path, tmp_path),
            keep_ratios=(0.1,),
            method="original",
        )
