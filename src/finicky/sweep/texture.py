"""A classic rival without any network: intensity and texture statistics of a tile.

A network that loses to these must know it: the defect is then merely dark, or rough.
"""

from __future__ import annotations

import numpy as np

from finicky.spool import forget

_BINS = 16
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def describe_tiles(tiles: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """``(N, S, S, 3)`` uint8 tiles, or some rows of them, to ``(N, 60)`` float32 statistics.

    Tiles may be mapped from disk: one at a time is read.

    Of the grey tile: histogram, percentiles, mean and spread; the same of its gradient; and the
    histogram of uniform local binary patterns at 1 and 2 px (Ojala et al. 2002, "Multiresolution
    gray-scale and rotation invariant texture classification with local binary patterns").
    """
    found = []
    for row in range(len(tiles)) if rows is None else rows:
        found.append(_describe(np.asarray(tiles[row])))
        forget(tiles)
    return np.stack(found).astype(np.float32)


def _describe(tile: np.ndarray) -> np.ndarray:
    from skimage.feature import local_binary_pattern

    grey = tile @ np.array([0.299, 0.587, 0.114])
    down, right = np.gradient(grey)
    steep = np.hypot(down, right)
    parts = [np.histogram(grey, bins=_BINS, range=(0, 256))[0] / grey.size]
    for values in (grey, steep):
        parts.append(np.percentile(values, _PERCENTILES))
        parts.append(np.array([values.mean(), values.std()]))
    for radius, points in ((1, 8), (2, 16)):
        codes = local_binary_pattern(grey.astype(np.uint8), points, radius, method="uniform")
        parts.append(np.bincount(codes.astype(int).ravel(), minlength=points + 2) / grey.size)
    return np.concatenate(parts)
