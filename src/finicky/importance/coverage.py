"""Channels that tell the most between them, chosen one after the other.

Criteria that score every channel for itself keep a dozen that answer alike, and what is cut after
them starves: on what is left, later layers answer nothing. Here a layer's channels are chosen
greedily, each time the one that lets most be told of the others, by linear prediction, where a
channel counts by the square of its correlation with the masks. Both sides of the mask weigh the
same in what is told, so that a thin crack is not drowned by the surface around it; and half of it
is means and maxima over tiles, which is all that the head sees.

It is column subset selection by pivoted Cholesky decomposition (Farahat et al. 2013, "Efficient
greedy feature selection for unsupervised learning", Knowledge and Information Systems 35, equation
12) with weights for the columns that are to be told; these weights, the balance by masks and the
mixture of pixels and pooled tiles are ours.
"""

from __future__ import annotations

import numpy as np

from finicky.importance.evidence import Evidence, Scores

# Of a correlation matrix: noise that no channel is asked to tell.
_RIDGE = 0.01
# So many channels of a layer are put in order one by one; the rest by what they would add.
_MOST_STEPS = 512
_LAST = 1e-6
# Of fewer, correlations say nothing.
_FEWEST_TILES = 8
# A channel that varies less than this, against its layer's liveliest, is as good as silent.
_SILENT = 1e-6


def coverage(evidence: Evidence) -> Scores:
    """``(C,)`` by convolution, in (0, 1]: 1 for the channel that is chosen first.

    NaN where the masks marked nothing, or everything.
    """
    found: Scores = {}
    for name, joint in evidence.joint.items():
        if not joint.tells_apart:
            found[name] = np.full(joint.sums.shape[1], np.nan)
            continue
        likeness = _correlations(joint.balanced())
        if len(evidence.pooled.labels) >= _FEWEST_TILES:
            means, peaks = evidence.pooled.means(name), evidence.pooled.peaks(name)
            tiles = [_correlations(np.cov(x, rowvar=False, ddof=0)) for x in (means, peaks)]
            likeness = (likeness + (tiles[0] + tiles[1]) / 2) / 2
        worth = joint.mask_correlation() ** 2
        found[name] = choose_in_turn(likeness, worth if worth.any() else np.ones(len(worth)))
    return found


def choose_in_turn(likeness: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Greedy choice of the channels from which the others can best be told.

    Args:
        likeness: ``(C, C)`` correlations, or a mean of correlation matrices.
        worth: ``(C,)``, at least 0: how much it matters to tell each channel.

    Returns:
        ``(C,)`` in (0, 1]: how much of all that is worth telling was untold when the channel was
        chosen, hence 1 for the first; the same scale in every layer. Equal gains: the lower channel
        first.
    """
    channels = len(worth)
    rest = _proper(likeness).astype(np.float32)
    rest[np.diag_indices(channels)] += _RIDGE
    total = untold = float(worth @ rest.diagonal())
    worth = worth.astype(np.float32)
    unchosen = np.ones(channels, dtype=bool)
    gains = np.zeros(channels)
    scores = np.zeros(channels)
    for turn in range(channels):
        if turn < _MOST_STEPS:
            own = np.maximum(rest.diagonal(), 1e-9)
            gains = (rest * rest) @ worth / own
        best = int(np.argmax(np.where(unchosen, gains, -1)))
        # The last term keeps the order where nothing is left to tell.
        scores[best] = max(untold / total, 0) * (1 - _LAST) + _LAST * (1 - turn / channels)
        unchosen[best] = False
        if turn < _MOST_STEPS:
            untold -= float(gains[best])
            column = rest[:, best] / np.sqrt(own[best])
            rest -= np.outer(column, column)
    return scores


def _proper(likeness: np.ndarray) -> np.ndarray:
    """The same without directions that vary less than nothing.

    Covariances from sums of many responses have such directions where a channel hardly varies
    about a large mean: there rounding is all that is left, and the choice would multiply it.
    """
    likeness = np.asarray(likeness, dtype=np.float64)
    try:
        np.linalg.cholesky(likeness + _RIDGE / 2 * np.eye(len(likeness)))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh((likeness + likeness.T) / 2)
        return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T)
    return likeness


def _correlations(covariance: np.ndarray) -> np.ndarray:
    """A silent channel goes with none, itself included."""
    covariance = np.atleast_2d(covariance)
    spread = np.sqrt(np.maximum(np.diagonal(covariance), 0))
    spread = np.where(spread > _SILENT * spread.max(initial=0), spread, 0)
    inverse = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    return covariance * inverse[:, None] * inverse[None]
