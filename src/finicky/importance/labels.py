"""Criteria that need tile labels only: how well a channel's pooled response tells them apart."""

from __future__ import annotations

import numpy as np


def tile_auroc(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column as a classifier of tiles.

    Args:
        values: ``(N, C)``.
        labels: ``(N,)`` 0 or 1.

    Returns:
        ``(C,)`` in [0, 1], 0.5 = no evidence, ties count half; NaN where a class is missing.
    """
    from scipy.stats import rankdata

    positive = labels == 1
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return np.full(values.shape[1], np.nan)
    ranks = rankdata(values, axis=0)
    wins = ranks[positive].sum(0) - n * (n + 1) / 2
    return np.asarray(wins / (n * m))


def tile_t(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Welch's t statistic of each column between tiles with and without the target, ``(C,)``.

    0 for a column that never varies; NaN where a class has fewer than two tiles.
    """
    a, b = values[labels == 1].astype(np.float64), values[labels == 0].astype(np.float64)
    if len(a) < 2 or len(b) < 2:
        return np.full(values.shape[1], np.nan)
    error = np.sqrt(a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(error > 0, (a.mean(0) - b.mean(0)) / error, 0.0)


def class_evidence(means: np.ndarray, peaks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How surely a channel's pooled response separates tiles with and without the target.

    ``|AUROC − 0.5|`` of the better of mean and maximum over the tile, ``(C,)`` in [0, 0.5]: what
    the head can do with this channel alone, which is all that it sees of it.
    """
    found = [np.abs(tile_auroc(v, labels) - 0.5) for v in (means, peaks)]
    return np.maximum(*found)


def class_t(means: np.ndarray, peaks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The same by the larger size of `tile_t` of mean and maximum, ``(C,)``, at least 0."""
    return np.maximum(*(np.abs(tile_t(v, labels)) for v in (means, peaks)))
