"""Training after the cut: what it promises, on surfaces that can be understood by eye."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from finicky.backbones import Backbone, Provenance, load_backbone
from finicky.backbones.backbone import IMAGENET_RGB
from finicky.errors import DataError, UsageError
from finicky.masks import IGNORE
from finicky.training import (
    FinetuneSettings,
    MarkedTiles,
    PixelMap,
    Soft,
    SurfaceAugmentation,
    finetune,
)
from finicky.training.tuning.fresh import fresh_weights, recalibrate
from finicky.training.tuning.mask_loss import MaskLoss
from finicky.training.tuning.rates import share_of_peak
from finicky.training.tuning.state import start

SIZE = 32
QUICK = FinetuneSettings(epochs=4, least_steps=6, batch=16)


def _backbone(*, norm: bool = False) -> Backbone:
    torch.manual_seed(0)
    layers: list[tuple[str, nn.Module]] = []
    for number, (wide, narrow) in enumerate(((3, 8), (8, 8), (8, 12)), start=1):
        layers.append((f"conv{number}", nn.Conv2d(wide, narrow, 3, padding=1)))
        if norm:
            layers.append((f"norm{number}", nn.BatchNorm2d(narrow)))
        layers += [(f"relu{number}", nn.ReLU()), (f"pool{number}", nn.MaxPool2d(2))]
    module = nn.Sequential(OrderedDict(layers)).eval().requires_grad_(False)
    return Backbone("toy", module, IMAGENET_RGB, Provenance("made up", "none"), 16)


def _tiles(count: int, seed: int) -> MarkedTiles:
    """Half of them with a thin dark line on noise of any brightness."""
    random = np.random.default_rng(seed)
    level = random.integers(70, 190, (count, 1, 1, 1))
    tiles = (level + random.normal(0, 8, (count, SIZE, SIZE, 1))).clip(0, 255)
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    for number in range(0, count, 2):
        row = random.integers(4, SIZE - 6)
        tiles[number, row : row + 2] -= 45
        masks[number, row : row + 2] = 1
    labels = (np.arange(count) % 2 == 0).astype(np.int64)
    return MarkedTiles(np.repeat(tiles.clip(0, 255), 3, 3).astype(np.uint8), labels, masks)


@pytest.fixture
def untouched_random_state() -> Callable[[], None]:
    before = torch.get_rng_state()

    def check() -> None:
        assert torch.equal(torch.get_rng_state(), before)

    return check


def test_training_learns_what_the_frozen_network_cannot_tell() -> None:
    train, validation = _tiles(48, 1), MarkedTiles(*_two(_tiles(40, 2)))
    found = finetune(_backbone(), train, validation, replace(QUICK, epochs=8, rate=0.01))
    assert found.validation[0] > 0.15
    assert found.validation[found.best_epoch] < 0.7 * found.validation[0]
    assert found.best_epoch > 0
    assert found.pixel_head is not None


def test_head_and_network_that_come_out_answer_as_validation_was_judged() -> None:
    """Oracle: the balanced Brier score from exported numbers, features and head apart."""
    from finicky.spool import Spool
    from finicky.training import extract

    train, validation = _tiles(32, 1), _tiles(24, 2)
    found = finetune(_backbone(), train, validation, QUICK)
    with Spool() as spool:
        features = extract(found.backbone, validation.tiles, spool, kind="mean+max")
        wrong = (found.head.probabilities(features) - validation.labels) ** 2
    score = (wrong[validation.labels == 0].mean() + wrong[validation.labels == 1].mean()) / 2
    assert score == pytest.approx(found.validation[found.best_epoch], abs=1e-5)
    assert not found.backbone.module.training
    assert not any(p.requires_grad for p in found.backbone.module.parameters())


@pytest.mark.parametrize("fresh", [False, True])
def test_same_arguments_same_network(
    fresh: bool, untouched_random_state: Callable[[], None]
) -> None:
    backbone = _backbone(norm=True)
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    settings = replace(QUICK, epochs=2, fresh=fresh)
    untouched_random_state()
    one, two = (finetune(backbone, _tiles(20, 1), _tiles(12, 2), settings) for _ in range(2))
    untouched_random_state()
    assert one.validation == two.validation
    for name, tensor in one.backbone.module.state_dict().items():
        assert torch.equal(tensor, two.backbone.module.state_dict()[name])
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, before[name]), "the network that was given has changed"


def test_interrupted_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    train, validation = _tiles(20, 1), _tiles(12, 2)
    whole = finetune(_backbone(), train, validation, QUICK)

    class Cut(Exception):
        pass

    def stop(_: str, done: int, __: int) -> None:
        if done == 15:  # in the middle of the third epoch
            raise Cut

    path = tmp_path / "training.safetensors"
    with pytest.raises(Cut):
        finetune(_backbone(), train, validation, QUICK, checkpoint=path, progress=stop)
    seen: list[int] = []
    again = finetune(
        _backbone(),
        train,
        validation,
        QUICK,
        checkpoint=path,
        progress=lambda _, done, __: seen.append(done),
    )
    assert seen[0] == 13
    assert again.validation == whole.validation
    np.testing.assert_array_equal(again.head.weight, whole.head.weight)


@pytest.mark.parametrize("spoil", ["other data", "damaged"])
def test_checkpoint_of_another_training_counts_as_none(tmp_path: Path, spoil: str) -> None:
    path, validation = tmp_path / "training.safetensors", _tiles(12, 2)
    settings = replace(QUICK, epochs=1)
    finetune(_backbone(), _tiles(20, 3), validation, settings, checkpoint=path)
    if spoil == "damaged":
        path.write_bytes(path.read_bytes()[:1000])
    found = finetune(_backbone(), _tiles(20, 1), validation, settings, checkpoint=path)
    plain = finetune(_backbone(), _tiles(20, 1), validation, settings)
    assert found.validation == plain.validation


def test_time_ends_training_and_is_said() -> None:
    found = finetune(
        _backbone(), _tiles(20, 1), _tiles(12, 2), replace(QUICK, epochs=10_000, time_s=0.3)
    )
    assert found.stopped == "time"
    assert len(found.validation) >= 2


def test_training_without_progress_ends_by_patience_and_keeps_the_start() -> None:
    """Labels of validation turned round: the more is learnt, the worse."""
    start = _tiles(40, 1)
    against = MarkedTiles(start.tiles, 1 - start.labels)
    found = finetune(_backbone(), start, against, replace(QUICK, epochs=50, patience=2))
    assert found.stopped == "patience"
    assert len(found.validation) < 50


def test_kept_epoch_is_the_last_that_cannot_be_told_from_the_best() -> None:
    backbone, tiles = _backbone(), _tiles(12, 1)
    state = start(backbone, tiles, QUICK, "mean+max", None)
    state.validation = [0.30, 0.22, 0.20, 0.23, 0.26]
    state.errors = [0.05, 0.05, 0.04, 0.01, 0.05]
    assert state.best_epoch == 3
    state.errors[2] = 0.02
    assert state.best_epoch == 2
    state.errors[2] = 0.11
    assert state.best_epoch == 4


def test_one_kind_of_tiles_is_refused() -> None:
    tiles = _tiles(12, 1)
    clean = MarkedTiles(tiles.tiles[1::2], tiles.labels[1::2])
    with pytest.raises(DataError, match="validation tiles with and without the target"):
        finetune(_backbone(), tiles, clean, QUICK)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs must be at least 1, got 0"),
        ("rate", 1.5, r"rate must be in \(0, 1\), got 1.5"),
        ("time_s", 0.0, "must be above 0 s, got 0"),
        ("soft_weight", 2.0, r"soft weight must be in \[0, 1\], got 2"),
        ("mask_weight", -1.0, "mask weight must be at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FinetuneSettings(**{name: value})  # type: ignore[arg-type]


def test_teacher_moves_the_answers_towards_its_own() -> None:
    train, validation = _tiles(20, 1), _tiles(20, 2)
    others = _tiles(30, 5)
    unsure = Soft(np.full(20, 0.5), others.tiles, np.full(30, 0.5))
    settings = replace(QUICK, epochs=6, soft_weight=1.0, rate=0.02)
    taught = finetune(_backbone(), train, validation, settings, soft=unsure)
    alone = finetune(_backbone(), train, validation, settings)
    assert taught.validation[-1] == pytest.approx(0.25, abs=0.01)
    assert alone.validation[-1] < 0.2


def test_pixel_head_is_the_fusion_to_the_last_number() -> None:
    backbone, tiles = _backbone(), _tiles(12, 1)
    x = backbone.preprocessing(torch.from_numpy(tiles.tiles))
    marks = MaskLoss(backbone.module, size=SIZE, sample=x, share=0.05)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in marks.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=random))
        last, logits = marks.run(backbone.module, x)
        again, probabilities = PixelMap(marks.pixel_head(), backbone.module)(backbone.module, x)
    torch.testing.assert_close(again, last)
    torch.testing.assert_close(probabilities, logits[-1].sigmoid(), atol=1e-4, rtol=1e-3)
    assert marks.pixel_head().cells == 16


def test_pixels_that_do_not_count_teach_nothing() -> None:
    backbone, tiles = _backbone(), _tiles(4, 1)
    assert tiles.masks is not None
    x = backbone.preprocessing(torch.from_numpy(tiles.tiles))
    marks = MaskLoss(backbone.module, size=SIZE, sample=x, share=0.05)
    _, logits = marks.run(backbone.module, x)
    ignored = torch.full((4, SIZE, SIZE), IGNORE, dtype=torch.uint8)
    assert marks.loss(logits, ignored).item() == 0
    half = torch.from_numpy(tiles.masks).clone()
    half[:, :, : SIZE // 2] = IGNORE
    changed = half.clone()
    changed[:, :, SIZE // 2 :] = 1
    assert marks.loss(logits, half).item() != marks.loss(logits, changed).item()


@pytest.mark.parametrize("name", ["alexnet-bn", "efficientnet-lite0"])
def test_networks_with_shortcuts_and_normalisation_train(name: str) -> None:
    backbone = load_backbone(name, weights="random")
    tiles = _big(_tiles(8, 1))
    for fresh in (False, True):
        settings = FinetuneSettings(epochs=1, least_steps=2, batch=4, fresh=fresh)
        found = finetune(backbone, tiles, tiles, settings)
        assert np.isfinite(found.validation).all()
        if not fresh:
            before, after = backbone.module.state_dict(), found.backbone.module.state_dict()
            means = [k for k in before if k.endswith("running_mean")]
            assert means
            assert all(torch.equal(before[k], after[k]) for k in means)


def test_fresh_network_answers_at_scale_in_every_layer() -> None:
    backbone = _backbone()
    x = backbone.preprocessing(torch.from_numpy(_tiles(16, 1).tiles))
    fresh = fresh_weights(backbone.module, x, seed=3)
    for layer in (1, 2, 3):
        stop = list(dict(fresh.named_children())).index(f"conv{layer}") + 1
        answer = fresh[:stop](x)  # type: ignore[index]
        assert float(answer.std()) == pytest.approx(1, abs=0.02)
        assert float(answer.mean()) == pytest.approx(0, abs=0.02)
    weight = backbone.module.conv2.weight  # type: ignore[union-attr]
    assert not torch.equal(fresh.conv2.weight, weight)  # type: ignore[union-attr, arg-type]


def test_recalibration_measures_what_the_network_sees() -> None:
    backbone = _backbone(norm=True)
    x = torch.randn(32, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 3 + 1
    assert recalibrate(backbone.module, [x[:16], x[16:]])
    answer = backbone.module.conv1(x)  # type: ignore[operator, union-attr]
    norm = backbone.module.norm1  # type: ignore[union-attr]
    torch.testing.assert_close(norm.running_mean, answer.mean((0, 2, 3)))  # type: ignore[union-attr]
    torch.testing.assert_close(
        norm.running_var,  # type: ignore[union-attr]
        answer.var((0, 2, 3)),
        rtol=0.05,
        atol=0,
    )
    assert not recalibrate(_backbone().module, [x])


def test_rates_rise_then_fall() -> None:
    shares = [share_of_peak(step, 100) for step in range(100)]
    assert max(shares) == pytest.approx(1)
    assert 8 <= int(np.argmax(shares)) <= 12
    assert shares[-1] < 0.02


def test_masks_move_with_their_tiles() -> None:
    """The dark square is where the mask says, however the tile was turned and zoomed."""
    tiles = np.full((64, 48, 48, 3), 200, np.uint8)
    masks = np.zeros((64, 48, 48), np.uint8)
    tiles[:, 20:32, 8:20], masks[:, 20:32, 8:20] = 0, 1
    change = SurfaceAugmentation(contrast=0, brightness=0, blur=0, noise=0)
    x, marks = change(*map(torch.from_numpy, (tiles, masks)), torch.Generator().manual_seed(0))
    assert marks is not None
    dark = x.mean(3) < 100
    wrong = (dark != (marks == 1)).float().mean()
    assert wrong < 0.002
    assert len({tuple(m.flatten().tolist()) for m in marks}) > 32
    areas = (marks == 1).float().mean((1, 2)) / (144 / 48**2)
    assert areas.min() < 0.75
    assert areas.max() > 1.3


def test_augmentation_keeps_grey_grey_and_in_range() -> None:
    tiles = torch.from_numpy(_tiles(16, 1).tiles)
    x, _ = SurfaceAugmentation()(tiles, None, torch.Generator().manual_seed(0))
    assert x.shape == tiles.shape
    assert float(x.min()) >= 0
    assert float(x.max()) <= 255
    torch.testing.assert_close(x[..., 0], x[..., 2], atol=1e-3, rtol=0)
    assert float((x - tiles).abs().mean()) > 5


def _two(tiles: MarkedTiles) -> tuple[np.ndarray, np.ndarray]:
    return tiles.tiles, tiles.labels


def _big(tiles: MarkedTiles) -> MarkedTiles:
    assert tiles.masks is not None
    big = np.repeat(np.repeat(tiles.tiles, 2, 1), 2, 2)
    return MarkedTiles(big, tiles.labels, np.repeat(np.repeat(tiles.masks, 2, 1), 2, 2))
