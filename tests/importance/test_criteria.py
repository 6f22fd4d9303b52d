"""Criteria on responses whose answer can be counted, and against plain renderings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, roc_auc_score

from finicky.errors import UsageError
from finicky.importance.criteria import (
    CRITERIA,
    best_iou,
    criterion,
    quantile_iou,
    rank_separation,
)
from finicky.importance.statistics import BINS, ChannelStatistics, bin_of


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


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_permuting_channels_permutes_scores(name: str) -> None:
    random = np.random.default_rng(2)
    mask = random.random((20, 20)) < 0.1
    maps = random.gamma(1, 2, (8, 20, 20)) + mask * random.random((8, 1, 1))
    order = random.permutation(8)
    scores = criterion(name)(_statistics(maps, mask))
    np.testing.assert_allclose(criterion(name)(_statistics(maps[order], mask)), scores[order])


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_scale_of_a_channel_does_not_matter(name: str) -> None:
    random = np.random.default_rng(3)
    mask = random.random((20, 20)) < 0.1
    maps = random.gamma(1, 2, (4, 20, 20)) + mask
    scores = criterion(name)(_statistics(maps, mask))
    np.testing.assert_allclose(criterion(name)(_statistics(maps * 8, mask)), scores, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_nothing_marked_is_no_evidence_rather_than_a_score_of_zero(name: str) -> None:
    found = _statistics(np.ones((2, 4, 4)), np.zeros((4, 4)))
    assert np.isnan(criterion(name)(found)).all()


def test_unknown_criterion_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'quantile-uoi'.*Did you mean quantile-iou"):
        criterion("quantile-uoi")


def test_top_share_outside_its_range_is_refused() -> None:
    with pytest.raises(UsageError, match=r"top_share must be in \(0, 1\), got 1.5"):
        quantile_iou(_statistics(np.ones((1, 2, 2)), np.ones((2, 2))), top_share=1.5)


def _statistics(maps: object, mask: object) -> ChannelStatistics:
    values = torch.as_tensor(np.asarray(maps), dtype=torch.float32).flatten(1)
    weights = np.asarray(mask, dtype=np.float64).ravel()
    total, inside = np.zeros((len(values), BINS)), np.zeros((len(values), BINS))
    for row, channel in enumerate(values):
        bins = bin_of(channel).numpy()
        np.add.at(total[row], bins, 1)
        np.add.at(inside[row], bins, weights)
    return ChannelStatistics(total, inside)
