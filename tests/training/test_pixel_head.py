"""Pixel heads: what they compute, what they learn, and what they are counted against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from finicky.backbones import Backbone, load_backbone
from finicky.errors import DataError
from finicky.flatness import flatten_probability
from finicky.training import (
    PixelHead,
    PixelMap,
    PixelSettings,
    fit_pixel_head,
    sample_cells,
    stage_taps,
)
from finicky.training.pixel_fit import _moments
from finicky.training.pixel_head import PHOTO, contrast, maps_at_once

SIZE = 64


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("alexnet", weights="random")


@pytest.fixture(scope="module")
def line() -> tuple[np.ndarray, np.ndarray]:
    """A photo of noise with a dark line, and the line's mask."""
    random = np.random.default_rng(0)
    photo = random.integers(120, 180, (200, 200, 3), dtype=np.uint8)
    mask = np.zeros((200, 200), np.uint8)
    mask[:, 90:98] = 1
    photo[mask == 1] //= 4
    return photo, mask


def test_at_most_three_convolutions_of_a_resolution_are_listened_to() -> None:
    taps = stage_taps(load_backbone("vgg16", weights="random").module, SIZE)
    assert len(taps) == 14
    assert taps.pop(PHOTO) == SIZE
    assert (taps["block1_conv1"], taps["block5_conv3"]) == (64, 4)
    deep = stage_taps(load_backbone("efficientnet-lite0", weights="random").module, SIZE)
    assert sorted(deep.values())[:-1] == [2, 2, 2, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32]
    assert list(deep)[-1] == "head"


def test_map_is_what_the_formula_says(backbone: Backbone) -> None:
    """Upsampled first and weighed then, the slow way round, by hand."""
    taps = _convolutions(backbone)
    head = _random_head(backbone, taps)
    inputs = torch.rand(2, 3, SIZE, SIZE)
    responses: dict[str, torch.Tensor] = {}
    layers = dict(backbone.module.named_children())
    hooks = [
        layers[name.replace("conv", "relu")].register_forward_hook(
            lambda _m, _i, out, name=name: responses.__setitem__(name, out)
        )
        for name in head.taps
    ]
    with torch.inference_mode():
        last, found = PixelMap(head, backbone.module)(backbone.module, inputs)
        for hook in hooks:
            hook.remove()
        grid = (head.cells, head.cells)
        stacked = torch.cat(
            [F.interpolate(responses[name], grid, mode="bilinear") for name in head.taps], 1
        )
        weight = torch.from_numpy(np.concatenate(head.weights, 1))
        hidden = torch.einsum("kc,nchw->nkhw", weight, stacked)
        hidden = torch.relu(hidden + torch.from_numpy(head.bias)[:, None, None])
        logit = torch.einsum("k,nkhw->nhw", torch.from_numpy(head.output), hidden)
        expected = torch.sigmoid(logit + head.output_bias)
        torch.testing.assert_close(last, backbone.module(inputs))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_sampled_cells_are_those_of_the_whole_interpolated_map(
    backbone: Backbone, line: tuple[np.ndarray, np.ndarray]
) -> None:
    """One tile, all of its marked cells: the sample holds what F.interpolate makes of the map."""
    photo = np.ascontiguousarray(line[0][:SIZE, 60 : 60 + SIZE])
    mask = line[1][:SIZE, 60 : 60 + SIZE]
    taps = _convolutions(backbone)
    settings = PixelSettings(tiles=1, target_cells=10_000, other_cells=0)
    sample = sample_cells(backbone, [photo], [mask], size=SIZE, taps=taps, settings=settings)
    finest = max(sample)
    coarse = min(taps, key=lambda name: taps[name])
    with torch.inference_mode():
        relu = dict(backbone.module.named_children())[coarse.replace("conv", "relu")]
        kept: list[torch.Tensor] = []
        hook = relu.register_forward_hook(lambda *parts: kept.append(parts[2]))
        backbone.module(backbone.preprocessing(torch.from_numpy(photo[None])))
        hook.remove()
        share = F.interpolate(
            torch.from_numpy((mask == 1).astype(np.float32))[None, None], (finest,) * 2, mode="area"
        ).flatten()
        whole = F.interpolate(kept[0], (finest,) * 2, mode="bilinear")[0].flatten(1).T
    cells = share > 0
    found = sample[finest].responses[coarse]
    assert found.shape == (int(cells.sum()), whole.shape[1])
    for channel in (0, 17, 255):
        np.testing.assert_allclose(
            np.sort(found[:, channel]), np.sort(whole[cells, channel].numpy()), atol=1e-5
        )


def test_head_learns_to_follow_a_line(
    backbone: Backbone, line: tuple[np.ndarray, np.ndarray]
) -> None:
    photo, mask = line
    taps = stage_taps(backbone.module, SIZE)
    settings = PixelSettings(tiles=24, steps=200)
    sample = sample_cells(backbone, [photo], [mask], size=SIZE, taps=taps, settings=settings)
    cells = max(sample)
    head = fit_pixel_head(sample[cells], list(taps), size=SIZE, cells=cells, settings=settings)
    tile = np.ascontiguousarray(photo[70 : 70 + SIZE, 62 : 62 + SIZE])[None]
    with torch.inference_mode():
        inputs = backbone.preprocessing(torch.from_numpy(tile))
        found = PixelMap(head, backbone.module)(backbone.module, inputs)[1][0].numpy()
    assert head.map_px == pytest.approx(SIZE / cells)
    column = int((94 - 62) / head.map_px)
    line_cells, others = found[:, column], np.delete(found, range(column - 2, column + 3), 1)
    assert np.median(line_cells) > 0.5
    assert np.median(others) < 0.1


def test_saved_head_is_the_same_and_damage_is_named(backbone: Backbone, tmp_path: Path) -> None:
    head = _random_head(backbone, _convolutions(backbone))
    path = tmp_path / "pixel_head.safetensors"
    head.save(path)
    again = PixelHead.load(path)
    assert (again.taps, again.cells, again.size) == (head.taps, head.cells, head.size)
    np.testing.assert_array_equal(again.weights[1], head.weights[1])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"pixel_head\.safetensors is no pixel head of ours"):
        PixelHead.load(path)


def test_photos_without_a_target_are_refused(backbone: Backbone) -> None:
    photo, mask = np.zeros((80, 80, 3), np.uint8), np.zeros((80, 80), np.uint8)
    taps = stage_taps(backbone.module, SIZE)
    with pytest.raises(DataError, match="no training photo of at least 64 px shows the target"):
        sample_cells(backbone, [photo], [mask], size=SIZE, taps=taps)


def test_head_of_another_network_is_refused(backbone: Backbone) -> None:
    head = _random_head(backbone, _convolutions(backbone))
    other = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    with pytest.raises(DataError, match="listens to conv1, which the network lacks"):
        PixelMap(head, other)


def test_contrast_is_darkness_against_the_surroundings() -> None:
    tile = torch.full((1, 3, SIZE, SIZE), 5.0)
    tile[:, :, :, 30] = 2.0
    found = contrast(tile, SIZE)[0]
    deviation = tile[0, 0].std(correction=0) + 1e-3
    assert found[0, 30, 30] == pytest.approx(float((3 - 3 / 9) / deviation), rel=1e-4)  # 1 in 9
    assert found[3, 30, 30] == pytest.approx(float((3 - 3 / 31) / deviation), rel=1e-4)  # 1 in 31
    torch.testing.assert_close(contrast(tile * 7 + 100, SIZE)[0], found, rtol=0.01, atol=0.05)
    assert contrast(tile, 15).shape == (1, 7, 15, 15)
    assert contrast(torch.ones(1, 3, SIZE, SIZE), SIZE).abs().max() == 0


def _convolutions(backbone: Backbone) -> dict[str, int]:
    return {n: s for n, s in stage_taps(backbone.module, SIZE).items() if n != PHOTO}


def _random_head(backbone: Backbone, taps: dict[str, int]) -> PixelHead:
    random = np.random.default_rng(1)
    layers = dict(backbone.module.named_modules())
    return PixelHead(
        taps=tuple(taps),
        weights=tuple(
            random.normal(size=(5, layers[name].out_channels)).astype(np.float32)  # type: ignore[union-attr]
            for name in taps
        ),
        bias=random.normal(size=5).astype(np.float32),
        output=random.normal(size=5).astype(np.float32),
        output_bias=0.3,
        size=SIZE,
        cells=max(taps.values()),
    )


def test_flattened_head_marks_the_same(backbone: Backbone) -> None:
    taps = _convolutions(backbone)
    head = _random_head(backbone, taps)
    head = replace(head, output=head.output / 50)
    flat = head.flattened(4)
    inputs = torch.rand(3, 3, SIZE, SIZE)
    with torch.inference_mode():
        first, second = (
            PixelMap(each, backbone.module)(backbone.module, inputs)[1].double().numpy()
            for each in (head, flat)
        )
    np.testing.assert_allclose(
        np.log(second / (1 - second)) * 4, np.log(first / (1 - first)), atol=1e-3
    )
    for threshold in (0.02, 0.5, 0.97):
        moved = flatten_probability(threshold, 4)
        assert abs(moved - 0.5) <= abs(threshold - 0.5)
        sure = np.abs(first - threshold) > 1e-5
        np.testing.assert_array_equal((first >= threshold)[sure], (second >= moved)[sure])


def test_maps_of_several_heads_come_from_one_pass(backbone: Backbone) -> None:
    taps = _convolutions(backbone)
    heads = [_random_head(backbone, taps), _random_head(backbone, dict(list(taps.items())[1:]))]
    dark = np.ones((5, 7), np.float32)
    heads.append(replace(heads[0], taps=(PHOTO, *taps), weights=(dark, *heads[0].weights)))
    maps = [PixelMap(head, backbone.module) for head in heads]
    inputs = torch.rand(2, 3, SIZE, SIZE)
    passes = []
    hook = backbone.module.register_forward_hook(lambda *_: passes.append(1))
    with torch.inference_mode():
        found = maps_at_once(maps, backbone.module, inputs)
        assert len(passes) == 1
        alone = [each(backbone.module, inputs)[1] for each in maps]
    hook.remove()
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_remembered_fits_however_many_photos(
    backbone: Backbone, line: tuple[np.ndarray, np.ndarray]
) -> None:
    photo, mask = line
    taps = stage_taps(backbone.module, SIZE)
    settings = PixelSettings(tiles=24, most_bytes=1_000_000)
    wanted = {SIZE: tuple(taps), 15: (PHOTO, *_convolutions(backbone))}
    for photos in (1, 12):
        sample = sample_cells(
            backbone,
            [photo] * photos,
            [mask] * photos,
            size=SIZE,
            taps=taps,
            wanted=wanted,
            settings=settings,
        )
        assert set(sample) == {SIZE, 15}
        total = sum(r.nbytes for each in sample.values() for r in each.responses.values())
        assert 300_000 < total < 1_200_000
        assert all((each.shares > 0).any() and (each.shares == 0).any() for each in sample.values())


def test_responses_are_standardised_as_by_numpy() -> None:
    random = np.random.default_rng(0)
    part = (1000 + random.normal(size=(9000, 3)) * [1, 0.01, 0]).astype(np.float32)
    mean, spread = _moments(torch.from_numpy(part))
    np.testing.assert_allclose(mean, part.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(spread, part.std(0, dtype=np.float64), rtol=1e-9, atol=1e-12)
