"""Channels that tell the most between them, chosen one after the other.

Criteria that score every channel for itself keep a dozen that answer alike, and what is cut after
them starves: on what is left, later layers answer nothing. Here a layer's channels are chosen
greedily, each time the one that lets most be told of the others, by linear prediction, where a
channel counts the more the better it goes with the masks and the better it separates tiles with
and without the target. Both sides of the mask weigh the same, so that a thin crack is not drowned
by the surface around it.

It is column subset selection by pivoted Cholesky decomposition (Farahat et al. 2013, "Efficient
greedy feature selection for unsupervised learning", Knowledge and Information Systems 35, equation
12) with weights for the columns that are to be told; these weights, the balance by masks and the
mixture of pixels and pooled tiles are ours.
"""

from __future__ import annotations

import numpy as np

from finicky.importance.evidence import Evidence, Scores
from finicky.importance.labels import class_evidence

# Of a correlation matrix: noise that no channel is asked to tell.
_RIDGE = 0.01
# So many channels of a layer are put in order one by one; the rest by what they would add.
_MOST_STEPS = 512
# A channel that varies less than this, against its layer's liveliest, is as good as silent.
_SILENT = 1e-6


def coverage(evidence: Evidence) -> Scores:
    """``(C,)`` by convolution, in (0, 1]: 1 for the channel that is chosen first.

    Where tiles of one kind are missing, masks decide alone; NaN where those marked nothing either.
    """
    pooled = evidence.pooled
    found: Scores = {}
    for name, joint in evidence.joint.items():
        if not evidence.has_both_kinds and not joint.weight.all():
            found[name] = np.full(joint.sums.shape[1], np.nan)
            continue
        covariance, unmarked, marked = joint.balanced()
        likeness, spread = _correlations(covariance)
        worth = _share(np.abs(_divide(marked - unmarked, spread))) ** 2
        if evidence.has_both_kinds:
            means, peaks = pooled.means(name), pooled.peaks(name)
            worth += _share(class_evidence(means, peaks, pooled.labels)) ** 2
            tiles = [_correlations(np.cov(x, rowvar=False, ddof=0))[0] for x in (means, peaks)]
            likeness = (likeness + (tiles[0] + tiles[1]) / 2) / 2
        found[name] = choose_in_turn(likeness, worth if worth.any() else np.ones(len(worth)))
    return found


def choose_in_turn(likeness: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Greedy choice of the channels from which the others can best be told.

    Args:
        likeness: ``(C, C)`` correlations, or a mean of correlation matrices.
        worth: ``(C,)``, at least 0: how much it matters to tell each channel.

    Returns:
        ``(C,)`` in (0, 1]: 1 for the first choice, 1/C for the last. Equal gains: the lower channel
        first.
    """
    channels = len(worth)
    rest = np.array(likeness, dtype=np.float32)
    rest[np.diag_indices(channels)] += _RIDGE
    worth = worth.astype(np.float32)
    open_ = np.ones(channels, dtype=bool)
    order: list[int] = []
    gains = np.zeros(channels)
    for _ in range(min(channels, _MOST_STEPS)):
        own = np.maximum(rest.diagonal(), 1e-9)
        gains = np.where(open_, (rest * rest) @ worth / own, -1)
        best = int(np.argmax(gains))
        order.append(best)
        open_[best] = False
        column = rest[:, best] / np.sqrt(own[best])
        rest -= np.outer(column, column)
    order += [int(c) for c in np.argsort(-gains, kind="stable") if open_[c]]
    scores = np.empty(channels)
    scores[order] = 1 - np.arange(channels) / channels
    return scores


def _correlations(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations and standard deviations; a silent channel goes with none, itself included."""
    spread = np.sqrt(np.maximum(np.diagonal(covariance), 0))
    spread = np.where(spread > _SILENT * spread.max(initial=0), spread, 0)
    inverse = _divide(np.ones_like(spread), spread)
    return covariance * inverse[:, None] * inverse[None], spread


def _divide(numbers: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.divide(numbers, by, out=np.zeros_like(numbers), where=by > 0)


def _share(values: np.ndarray) -> np.ndarray:
    """As a share of the largest."""
    values = np.nan_to_num(values)
    return values / max(float(values.max(initial=0)), 1e-12)
