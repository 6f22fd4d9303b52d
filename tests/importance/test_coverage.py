"""Channels chosen in turn: by hand, against numpy, and on networks that know the answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from finicky.importance import CRITERIA, Evidence, JointMoments, ScoringBatch, gather
from finicky.importance.coverage import choose_in_turn


def test_a_twin_comes_after_a_channel_that_tells_something_new() -> None:
    likeness = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    scores = choose_in_turn(likeness, np.ones(3))
    # two of three are told by the first, all but the ridge by the first and the last
    np.testing.assert_allclose(scores, [1, 0, 1 / 3], atol=0.02)


def test_what_is_worth_more_comes_first_and_equal_gains_leave_the_order() -> None:
    scores = choose_in_turn(np.eye(4), np.array([1.0, 1.0, 5.0, 0.0]))
    np.testing.assert_allclose(scores, [2 / 7, 1 / 7, 1, 0], atol=1e-5)
    assert np.argsort(-scores).tolist() == [2, 0, 1, 3]


def test_the_order_is_that_of_plain_least_squares() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 3)) @ random.normal(size=(3, 7)) + random.normal(size=(400, 7))
    likeness, worth = np.corrcoef(rows, rowvar=False), random.random(7)
    rows = (rows - rows.mean(0)) / rows.std(0)
    chosen: list[int] = []
    for _ in range(7):
        told = []
        for channel in range(7):
            x = rows[:, [*chosen, channel]]
            gram = x.T @ x / len(x) + 0.01 * np.eye(x.shape[1])  # the same ridge
            about = x.T @ rows / len(x) + 0.01 * np.eye(7)[[*chosen, channel]]
            told.append(float((about * np.linalg.solve(gram, about)).sum(0) @ worth))
        left = [c for c in range(7) if c not in chosen]
        chosen.append(max(left, key=lambda c: told[c]))
    assert np.argsort(-choose_in_turn(likeness, worth)).tolist() == chosen


def test_joint_moments_are_numpys_weighted_covariance_whatever_the_batches() -> None:
    random = np.random.default_rng(1)
    maps = random.gamma(1, 2, (6, 3, 5, 4)).astype(np.float32)
    masks = (random.random((6, 5, 4)) * (random.random((6, 5, 4)) < 0.4)).astype(np.float32)
    valid = (random.random((6, 5, 4)) < 0.9).astype(np.float32)
    joint = JointMoments.empty(3)
    for part in (slice(0, 2), slice(2, 6)):
        inside = torch.from_numpy(masks[part] * valid[part])
        joint.add(torch.from_numpy(maps[part]), inside, torch.from_numpy(valid[part]))
    rows = maps.transpose(0, 2, 3, 1).reshape(-1, 3)
    on = (masks * valid).ravel()
    off = valid.ravel() - on
    weights = on / on.sum() + off / off.sum()
    expected = np.cov(rows, rowvar=False, aweights=weights, ddof=0)
    np.testing.assert_allclose(joint.balanced(), expected, rtol=1e-4)
    seen = valid.ravel() > 0
    alone = [abs(np.corrcoef(rows[seen, c], on[seen])[0, 1]) for c in range(3)]
    np.testing.assert_allclose(joint.mask_correlation(), alone, rtol=1e-3)


def test_the_channel_that_follows_the_mask_is_first_its_copies_late_and_silence_last() -> None:
    scores = _scores(_batches(labels=True))
    assert np.argmax(scores) == 0
    assert scores[3] == min(scores)  # never answers
    assert scores[2] > scores[3]


def test_without_clean_tiles_the_photos_decide() -> None:
    scores = _scores(_batches(labels=False))
    assert np.argmax(scores) == 0
    assert scores[3] == min(scores)


def test_nothing_marked_is_no_evidence() -> None:
    module = _network()
    evidence = Evidence(module, 8, joint={"0": JointMoments.empty(4)})
    evidence.joint["0"].add(torch.ones(1, 4, 8, 8), torch.zeros(1, 8, 8), None)
    assert np.isnan(CRITERIA["coverage"].score(evidence)["0"]).all()


@pytest.mark.parametrize("size", [1, 3])
def test_one_channel_and_one_pixel_are_no_trouble(size: int) -> None:
    joint = JointMoments.empty(1)
    joint.add(torch.ones(2, 1, size, size), torch.ones(2, size, size), None)
    joint.add(torch.ones(2, 1, size, size), torch.zeros(2, size, size), None)
    evidence = Evidence(nn.Sequential(), 8, joint={"a": joint})
    assert CRITERIA["coverage"].score(evidence)["a"] == [1]


def _network() -> nn.Sequential:
    """Red, red again, green, nothing; each channel of a photo as it is."""
    conv = nn.Conv2d(3, 4, 1)
    weight = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    conv.weight = nn.Parameter(weight[..., None, None], requires_grad=False)
    conv.bias = nn.Parameter(torch.zeros(4), requires_grad=False)
    return nn.Sequential(conv, nn.ReLU()).eval()


def _batches(*, labels: bool) -> list[ScoringBatch]:
    """Red where the mask is, green noise; every other tile is clean."""
    random = torch.Generator().manual_seed(0)
    masks = torch.zeros(8, 8, 8)
    masks[::2, 3] = 1
    inputs = torch.zeros(8, 3, 8, 8)
    inputs[:, 0] = masks + 0.1 * torch.rand(8, 8, 8, generator=random)
    inputs[:, 1] = torch.rand(8, 8, 8, generator=random)
    if labels:
        return [ScoringBatch(inputs, masks, None, (1, 0) * 4, tuple("aabbccdd"))]
    return [ScoringBatch(inputs[::2], masks[::2], None, (1,) * 4, tuple("abcd"))]


def _scores(batches: list[ScoringBatch]) -> np.ndarray:
    evidence = gather(
        _network(), 8, windows=lambda: batches, tiles=lambda: batches, needs={"joint"}
    )
    return CRITERIA["coverage"].score(evidence)["0"]


def test_rounding_in_correlations_is_not_multiplied() -> None:
    """Correlations of hardly varying channels contradict each other: no such channels exist."""
    rng = np.random.default_rng(3)
    likeness = np.where(rng.random((200, 200)) < 0.5, 1.0, -1.0)
    likeness = np.triu(likeness, 1) + np.triu(likeness, 1).T + np.eye(200)
    with np.errstate(over="raise", invalid="raise"):
        scores = choose_in_turn(likeness, np.ones(200))
    assert np.isfinite(scores).all()
    assert 0 < scores.min() < scores.max() <= 1
