"""Tiles made from whole numbers alone: the same on every machine, in every version.

A bundle carries what its models answer on them, so that a device can tell whether it answers the
same, and nobody's photographs need to travel along.
"""

from __future__ import annotations

import numpy as np

PATTERNS = 8


def pattern_tiles(size: int, count: int = PATTERNS) -> np.ndarray:
    """``(count, size, size, 3)`` uint8: grainy greys, every second one with a dark line."""
    y, x = np.mgrid[0:size, 0:size].astype(np.int64)
    tiles = []
    for k in range(1, count + 1):
        grain = (x * x * (2 * k + 1) + y * y * (k + 2) + x * y * (7 * k + 3) + 31 * k) % 61
        tile = np.stack(
            [110 + 4 * k + grain + c * (x * 20 // size) // 2 for c in range(3)], axis=-1
        )
        if k % 2 == 0:
            path = size // 4 + (x * k) // 12 + (x * 5 % 7) // 3
            tile[np.abs(y - path) <= 1 + k // 4] -= 90
        tiles.append(tile)
    return np.clip(np.stack(tiles), 0, 255).astype(np.uint8)
