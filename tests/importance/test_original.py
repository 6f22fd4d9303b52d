"""The 2021 method: by hand, and against a run of the original scripts."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from finicky.backbones import load_backbone
from finicky.errors import UnsupportedModelError, UsageError
from finicky.importance import original
from finicky.importance.original import OriginalScorer, best_channels
from finicky.importance.truncated import truncated_iou
from support import require_shipped_weights


def test_truncated_iou_counts_bits_not_overlap() -> None:
    # 1 AND 255 is 1, 2 AND 64 is 0 although both are "on"; 0.9 truncates to off; 256 wraps to 0.
    maps = torch.tensor([[[[1.5, 2.0], [0.9, 256.0]]]])
    masks = torch.tensor([[[255, 64], [255, 255]]], dtype=torch.uint8)
    assert truncated_iou(maps, masks).item() == pytest.approx(1 / 4)


def test_truncated_iou_of_nothing_is_zero() -> None:
    maps = torch.zeros(1, 2, 3, 3)
    assert truncated_iou(maps, torch.zeros(1, 3, 3, dtype=torch.uint8)).tolist() == [[0.0, 0.0]]


def test_ties_go_to_the_higher_channel_number() -> None:
    scores = np.array([0.5, 0.1, 0.5, 0.5], dtype=np.float32)
    assert best_channels(scores, 2).tolist() == [2, 3]


def test_count_is_rounded_from_one_channel_less_as_python_rounds() -> None:
    chain = _chain(12)
    photos, masks = _photos()
    # (12 − 1) · 0.5 = 5.5, and Python rounds halves to even: 6
    kept = OriginalScorer(chain, photos, masks).choose(0.5).kept
    assert [len(v) for v in kept.values()] == [6, 6]


def test_input_of_a_layer_is_what_the_layer_before_kept() -> None:
    """Cutting the first layer changes the second one's scores: it is scored layer by layer."""
    chain = _chain(12)
    photos, masks = _photos()
    scorer = OriginalScorer(chain, photos, masks)
    few, all_ = scorer.choose(0.3), scorer.choose(1.0)
    np.testing.assert_array_equal(few.scores["conv1"], all_.scores["conv1"])
    assert not np.array_equal(few.scores["conv2"], all_.scores["conv2"])
    assert all_.kept["conv1"] == list(range(12))


def test_scores_equal_a_plain_rendering_of_the_method() -> None:
    """One photo at a time, whole layers cut by indexing, nothing shared or batched."""
    chain = _chain(10)
    photos, masks = _photos(count=5)
    choice = OriginalScorer(chain, photos, masks).choose(0.4)
    keep = torch.tensor(choice.kept["conv1"])
    rows = []
    for photo, mask in zip(photos, masks, strict=True):
        x = torch.from_numpy(photo[..., ::-1].copy()).permute(2, 0, 1)[None].float()
        first = torch.relu(chain.conv1(x))[:, keep]  # type: ignore[operator]
        second = torch.nn.functional.conv2d(
            nn.functional.max_pool2d(first, 2),
            chain.conv2.weight[:, keep],  # type: ignore[index, union-attr]
            chain.conv2.bias,  # type: ignore[union-attr, arg-type]
            padding=1,
        )
        byte = torch.relu(second)[0].detach().numpy().astype(np.int64).astype(np.uint8)
        grey = (mask.astype(np.uint16) * 255).reshape(8, 2, 8, 2).sum((1, 3))
        small = ((grey + 2) // 4).astype(np.uint8)
        rows.append([(b & small > 0).sum() / max((b | small > 0).sum(), 1) for b in byte])
    np.testing.assert_allclose(choice.scores["conv2"], np.mean(rows, axis=0), rtol=1e-5)


@pytest.mark.parametrize("bad", [0.0, -0.2, 1.5, 20.0])
def test_keep_ratio_outside_its_range_is_refused(bad: float) -> None:
    photos, masks = _photos()
    with pytest.raises(UsageError, match=r"keep ratio must be in \(0, 1\], got"):
        OriginalScorer(_chain(4), photos, masks).choose(bad)


def test_ratio_that_leaves_no_channel_names_layer_and_least_ratio() -> None:
    photos, masks = _photos()
    with pytest.raises(UsageError, match=r"leaves none of the 4 channels of conv1: use at least"):
        OriginalScorer(_chain(4), photos, masks).choose(0.01)


def test_network_with_a_shortcut_is_refused_by_layer_name() -> None:
    photos, masks = _photos()
    module = load_backbone("efficientnet-lite0", weights="random").module
    with pytest.raises(UnsupportedModelError, match=r"plain chains.*stem_relu.*ReLU6"):
        OriginalScorer(module, photos, masks)


def test_grouped_convolution_is_refused() -> None:
    photos, masks = _photos()
    chain = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=2), nn.ReLU())
    with pytest.raises(UnsupportedModelError, match=r"2 .Conv2d. has 2 groups"):
        OriginalScorer(chain, photos, masks)


def test_batch_normalisation_keeps_its_statistics() -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 8, 3),
            relu1=nn.ReLU(),
            bn1=nn.BatchNorm2d(8),
            conv2=nn.Conv2d(8, 8, 3),
            relu2=nn.ReLU(),
        )
    ).eval()
    photos, masks = _photos()
    plain = OriginalScorer(chain, photos, masks).choose(0.5).scores["conv2"]
    chain.bn1.running_mean.fill_(50.0)  # type: ignore[union-attr, operator]
    shifted = OriginalScorer(chain, photos, masks).choose(0.5).scores["conv2"]
    assert not np.array_equal(plain, shifted)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize("ratio", ["0.01", "0.2", "0.5"])
def test_kept_channels_equal_those_of_the_original_scripts(reference: Path, ratio: str) -> None:
    require_shipped_weights()
    folder = reference / "original_run"
    files = sorted((folder / "images").iterdir())
    photos = np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files])
    masks = [np.asarray(Image.open(folder / "masks" / f.name)) > 127 for f in files]
    expected = json.loads((folder / "kept_channels.json").read_text())["runs"][ratio]["kept"]
    scorer = OriginalScorer(load_backbone("vgg16").module, photos, masks)
    assert scorer.choose(float(ratio)).kept == expected


def _chain(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = OrderedDict(
        conv1=nn.Conv2d(3, width, 3, padding=1),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(width, width, 3, padding=1),
        relu2=nn.ReLU(),
    )
    return nn.Sequential(layers).eval()


def _photos(count: int = 3) -> tuple[np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng(0)
    photos = random.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    masks = [random.random((16, 16)) < 0.2 for _ in range(count)]
    return photos, masks


@pytest.mark.parametrize("shape", [(2, 13, 16, 17), (1, 1, 1, 1), (3, 8, 20, 20)])
def test_counting_eight_channels_at_once_is_exact(shape: tuple[int, ...]) -> None:
    """Oracle: the definition, pixel by pixel; values beyond 255 wrap, masks are grey at rims."""
    random = torch.Generator().manual_seed(0)
    maps = torch.relu(torch.randn(shape, generator=random) * 300)
    masks = torch.randint(0, 256, (shape[0], *shape[2:]), generator=random, dtype=torch.uint8)
    masks[:, : shape[2] // 2] = 0
    numbers = maps.to(torch.int32).to(torch.uint8)
    both = (numbers & masks[:, None]).ne(0).sum((2, 3))
    either = (numbers | masks[:, None]).ne(0).sum((2, 3))
    expected = torch.where(either > 0, both / either.clamp(min=1), torch.zeros(()))
    for layout in (torch.contiguous_format, torch.channels_last):
        found = truncated_iou(maps.contiguous(memory_format=layout), masks)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("room", [0, 1 << 29])
def test_scores_do_not_depend_on_what_ratios_share(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One scorer for all ratios, in any order, with responses at hand or computed again."""
    monkeypatch.setattr(original, "KEPT_BYTES", room)
    photos, masks = _photos(count=5)
    shared = OriginalScorer(_chain(10), photos, masks)
    for ratio in (0.5, 0.2, 0.9, 0.52):
        alone = OriginalScorer(_chain(10), photos, masks).choose(ratio)
        found = shared.choose(ratio)
        assert found.kept == alone.kept
        for name, scores in alone.scores.items():
            np.testing.assert_array_equal(found.scores[name], scores)


def test_ratios_with_the_same_counts_are_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    photos, masks = _photos()
    scorer = OriginalScorer(_chain(10), photos, masks)
    first = scorer.choose(0.52)
    monkeypatch.setattr(original, "truncated_iou", None)  # to call it would fail
    assert scorer.choose(0.55).kept == first.kept  # round(9 · 0.52) = round(9 · 0.55) = 5
