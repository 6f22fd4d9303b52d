"""Criteria on responses whose answer can be counted, and against plain renderings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, roc_auc_score
from torch import nn

from finicky.errors import UsageError
from finicky.importance import (
    CRITERIA,
    PEERS,
    Evidence,
    PooledTiles,
    ScoringBatch,
    criterion,
    find_taps,
    gather,
)
from finicky.importance.by_photo import photo_quantile_iou
from finicky.importance.labels import tile_auroc, tile_t
from finicky.importance.overlap import (
    best_iou,
    quantile_iou,
    rank_separation,
    signed_mask_correlation,
)
from finicky.importance.statistics import BINS, ChannelStatistics, Moments, bin_of

# Those that a histogram and moments of one photo suffice for.
ON_MASKS = sorted(n for n, c in CRITERIA.items() if c.needs == {"masks"} and not c.by_photo)


def test_quantile_iou_counts_pixels() -> None:
    # left column answers, top row is marked: 1 shared of 3
    found = _statistics([[[4.0, 0.0], [4.0, 0.0]]], [[1, 1], [0, 0]])
    np.testing.assert_allclose(quantile_iou(found, top_share=0.5), [1 / 3])


def test_perfect_and_blind_channels() -> None:
    mask = np.zeros((10, 10))
    mask[3] = 1
    maps = np.stack([mask * 7, np.zeros((10, 10)), 1 - mask])
    found = _statistics(maps, mask)
    np.testing.assert_allclose(quantile_iou(found, top_share=0.1), [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(best_iou(found), [1, 0, 0.1 * 0], atol=1e-9)
    np.testing.assert_allclose(rank_separation(found), [1, 0.5, 0])


def test_quantile_iou_equals_scikit_learn_on_thresholded_maps() -> None:
    random = np.random.default_rng(0)
    mask = random.random((40, 50)) < 0.08
    maps = 2.0 ** random.uniform(-6, 6, (6, 40, 50)) * np.where(mask, 2, 1)
    found = quantile_iou(_statistics(maps, mask), top_share=0.1)
    for channel, iou in zip(maps, found, strict=True):
        strong = channel > np.quantile(channel, 0.9)
        # A bin is 4 % wide: a few pixels near the threshold may fall to its other side.
        assert iou == pytest.approx(jaccard_score(mask.ravel(), strong.ravel()), abs=0.01)


def test_rank_separation_is_the_area_under_the_roc_curve() -> None:
    random = np.random.default_rng(1)
    mask = random.random((40, 50)) < 0.2
    maps = np.maximum(random.normal(size=(5, 40, 50)) + 0.7 * mask, 0)
    found = rank_separation(_statistics(maps, mask))
    expected = [roc_auc_score(mask.ravel(), m.ravel()) for m in maps]
    np.testing.assert_allclose(found, expected, atol=0.005)


@pytest.mark.parametrize("name", ON_MASKS)
def test_permuting_channels_permutes_scores(name: str) -> None:
    random = np.random.default_rng(2)
    mask = random.random((20, 20)) < 0.1
    maps = random.gamma(1, 2, (8, 20, 20)) + mask * random.random((8, 1, 1))
    order = random.permutation(8)
    scores = _score(name, _statistics(maps, mask))
    np.testing.assert_allclose(_score(name, _statistics(maps[order], mask)), scores[order])


@pytest.mark.parametrize("name", ON_MASKS)
def test_scale_of_a_channel_does_not_matter(name: str) -> None:
    random = np.random.default_rng(3)
    mask = random.random((20, 20)) < 0.1
    maps = random.gamma(1, 2, (4, 20, 20)) + mask
    scores = _score(name, _statistics(maps, mask))
    np.testing.assert_allclose(_score(name, _statistics(maps * 8, mask)), scores, rtol=1e-6)


@pytest.mark.parametrize("name", ON_MASKS)
def test_nothing_marked_is_no_evidence_rather_than_a_score_of_zero(name: str) -> None:
    found = _statistics(np.ones((2, 4, 4)), np.zeros((4, 4)))
    assert np.isnan(_score(name, found)).all()


def test_unknown_criterion_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'quantile-uoi'.*Did you mean quantile-iou"):
        criterion("quantile-uoi")


def test_top_share_outside_its_range_is_refused() -> None:
    with pytest.raises(UsageError, match=r"top_share must be in \(0, 1\), got 1.5"):
        quantile_iou(_statistics(np.ones((1, 2, 2)), np.ones((2, 2))), top_share=1.5)


def test_correlation_is_that_of_numpy_and_masks_may_be_grey() -> None:
    random = np.random.default_rng(4)
    mask = random.random((30, 40)) * (random.random((30, 40)) < 0.3)
    maps = random.gamma(1, 2, (5, 30, 40)) + random.normal(size=(5, 1, 1)) * mask
    found = signed_mask_correlation(_statistics(maps, mask))
    expected = [np.corrcoef(m.ravel(), mask.ravel())[0, 1] for m in maps]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_filter_that_falls_silent_on_the_target_is_evidence_too() -> None:
    mask = np.zeros((10, 10))
    mask[3] = 1
    silent, loud = 1 - mask, mask
    flat = np.random.default_rng(0).random((10, 10))
    found = _statistics(np.stack([silent, loud, flat]), mask)
    for name in ("mask-correlation", "two-sided-rank"):
        scores = _score(name, found)
        assert scores[0] == pytest.approx(scores[1])
        assert scores[0] > scores[2]
    assert _score("signed-mask-correlation", found)[0] == pytest.approx(-1)


def test_overlap_by_photo_is_the_mean_over_photos_with_a_mark() -> None:
    mask = torch.zeros(2, 10, 10)
    mask[0, 3] = 1
    maps = torch.stack([mask, 1 - mask], 1) * 3
    found = photo_quantile_iou(maps, mask, mask, None)
    # the top 2 % of 100 pixels is 2; ties at the threshold count as strong, so all 10 do
    np.testing.assert_allclose(found[0], [1, 0])
    assert np.isnan(found[1]).all()


def test_tile_auroc_and_t_equal_those_of_the_libraries() -> None:
    from scipy.stats import ttest_ind

    random = np.random.default_rng(5)
    labels = np.arange(60) % 3 // 2
    values = np.round(random.normal(size=(60, 4)) + labels[:, None], 1)  # with ties
    expected = [roc_auc_score(labels, v) for v in values.T]
    np.testing.assert_allclose(tile_auroc(values, labels), expected)
    t = ttest_ind(values[labels == 1], values[labels == 0], equal_var=False).statistic
    np.testing.assert_allclose(tile_t(values, labels), t)
    assert np.isnan(tile_auroc(values, np.ones(60, int))).all()


def test_class_evidence_finds_the_channel_that_tells_the_tiles_apart() -> None:
    pooled = PooledTiles()
    labels = (1, 0, 1, 0)
    pooled.note(labels, ("a", "a", "b", "b"))
    maps = torch.zeros(4, 3, 2, 2)
    maps[:, 0, 0, 0] = torch.tensor(labels)  # answers to the target
    maps[:, 1] = 1 - torch.tensor(labels)[:, None, None]  # falls silent on it
    maps[:, 2] = torch.tensor([1.0, 1.0, 2.0, 2.0])[:, None, None]  # the photo, not the target
    pooled.add("conv", maps)
    evidence = Evidence(nn.Identity(), 64, pooled=pooled)
    assert criterion("class-evidence").score(evidence)["conv"].tolist() == [0.5, 0.5, 0]
    assert criterion("mean-activation").score(evidence)["conv"].argmax() == 2


def test_combination_is_the_mean_of_ranks() -> None:
    mask = np.zeros((10, 10))
    mask[3] = 1
    maps = np.stack([mask, mask * 0.5 + np.eye(10), np.eye(10)])
    pooled = PooledTiles()
    pooled.note((1, 0), ("a", "b"))
    pooled.add("conv", torch.tensor([[1.0, 0, 2], [0, 0, 1]])[..., None, None])
    evidence = Evidence(nn.Identity(), 64, {"conv": _statistics(maps, mask)}, pooled)
    # by correlation 3, 2, 1; by class evidence 2.5, 1, 2.5
    expected = np.array([5.5, 3, 3.5]) / 6
    np.testing.assert_allclose(criterion("mask+class").score(evidence)["conv"], expected)


@pytest.mark.parametrize("name", sorted(PEERS))
def test_every_peer_scores_every_channel_and_leaves_the_network_alone(name: str) -> None:
    evidence = _peer_evidence()
    before = {k: v.clone() for k, v in evidence.module.state_dict().items()}
    scores = criterion(name).score(evidence)
    assert {n: len(s) for n, s in scores.items()} == {"0": 6, "3": 4}
    assert all(np.isfinite(s).all() for s in scores.values())
    assert all(len(np.unique(s)) > 1 for s in scores.values())
    assert not any(p.requires_grad or p.grad is not None for p in evidence.module.parameters())
    after = evidence.module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("name", ["taylor", "hessian", "l1", "l2"])
def test_a_channel_that_nothing_reads_is_worth_least(name: str) -> None:
    evidence = _peer_evidence()
    conv = evidence.module[0]
    assert isinstance(conv, nn.Conv2d)
    conv.weight[2] = 0
    evidence.module[3].weight[:, 2] = 0  # type: ignore[union-attr, index]
    scores = criterion(name).score(evidence)["0"]
    assert scores.argmin() == 2
    assert scores[2] == 0


def test_taylor_is_the_squared_change_of_each_tiles_loss() -> None:
    """Not the square of the mean change: what helps one tile and harms another matters."""
    evidence = _peer_evidence()
    one = criterion("taylor").score(evidence)["0"]
    batches = list(evidence.tiles())
    apart = [
        ScoringBatch(b.inputs[i : i + 1], b.masks[i : i + 1], None, b.labels[i : i + 1], ("a",))
        for b in batches
        for i in range(len(b.inputs))
        if b.labels is not None
    ]
    evidence.tiles = lambda: apart
    np.testing.assert_allclose(criterion("taylor").score(evidence)["0"], one, rtol=1e-3)


def test_scale_of_batch_normalisation_is_refused_where_there_is_none() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    with pytest.raises(UsageError, match="bn-scale needs batch normalisation"):
        criterion("bn-scale").score(Evidence(module, 16))


def test_one_pass_gathers_what_is_needed_and_no_more() -> None:
    evidence = _peer_evidence()
    module, tiles = evidence.module, evidence.tiles
    found = gather(module, 16, windows=tiles, tiles=tiles, needs={"masks"})
    assert set(found.statistics) == set(find_taps(module, 16))
    assert not found.pooled.layers
    found = gather(module, 16, windows=tiles, tiles=tiles, needs={"tiles"}, layers=["3"])
    assert found.pooled.layers == ("3",)
    assert found.pooled.means("3").shape == (12, 4)
    assert not found.statistics


def _peer_evidence() -> Evidence:
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
    )  # fmt: skip
    for norm in (module[1], module[4]):
        nn.init.uniform_(norm.weight, 0.5, 2)  # type: ignore[arg-type]
    module.eval().requires_grad_(False)
    labels = tuple([0, 1] * 6)
    inputs = torch.randn(12, 3, 16, 16)
    inputs[:, 0] += torch.tensor(labels)[:, None, None]
    batch = ScoringBatch(inputs, (torch.rand(12, 16, 16) < 0.1).float(), None, labels, ("p",) * 12)
    pooled = gather(
        module, 16, windows=lambda: [batch], tiles=lambda: [batch], needs={"tiles"}
    ).pooled
    return Evidence(module, 16, pooled=pooled, tiles=lambda: [batch])


def _score(name: str, statistics: ChannelStatistics) -> np.ndarray:
    return criterion(name).score(Evidence(nn.Identity(), 64, {"conv": statistics}))["conv"]


def _statistics(maps: object, mask: object) -> ChannelStatistics:
    values = torch.as_tensor(np.asarray(maps), dtype=torch.float32).flatten(1)
    weights = np.asarray(mask, dtype=np.float64).ravel()
    total, inside = np.zeros((len(values), BINS)), np.zeros((len(values), BINS))
    for row, channel in enumerate(values):
        bins = bin_of(channel).numpy()
        np.add.at(total[row], bins, 1)
        np.add.at(inside[row], bins, weights)
    moments = Moments()
    shape = (1, len(values), 1, values.shape[1])
    moments.add(values.view(shape), torch.from_numpy(weights).float().view(1, 1, -1), None)
    return ChannelStatistics(total, inside, moments)
