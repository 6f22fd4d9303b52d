"""Connected parts of a mask, numbered, with numpy alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Box = tuple[int, int, int, int]


def label_regions(mask: np.ndarray, *, diagonal: bool = True) -> tuple[np.ndarray, int]:
    """Number the connected parts of a mask from 1, in reading order of their first cells.

    Args:
        mask: ``(H, W)`` bool.
        diagonal: Whether cells that touch at a corner are connected.

    Returns:
        ``(H, W)`` int32 numbers, 0 where the mask is false; and how many there are.
    """
    height, width = mask.shape
    wide = np.zeros((height, width + 2), bool)
    wide[:, 1:-1] = mask
    rows, at = set_cells(wide[:, 1:] != wide[:, :-1])
    rows, begin, end = rows[::2], at[::2], at[1::2]  # runs of set cells: [begin, end)
    if not len(rows):
        return np.zeros(mask.shape, np.int32), 0
    reach = 1 if diagonal else 0
    # Runs lie in reading order: those of the row above that touch a run are neighbours in a list.
    step = width + 3
    low = np.searchsorted((rows + 1) * step + end + reach, rows * step + begin, side="right")
    high = np.searchsorted((rows + 1) * step + begin - reach, rows * step + end, side="left")
    low = np.maximum(low, np.searchsorted(rows, rows - 1, side="left"))
    high = np.minimum(high, np.searchsorted(rows, rows - 1, side="right"))
    several = np.maximum(high - low, 0)
    lower = np.repeat(np.arange(len(rows)), several)
    upper = np.arange(several.sum()) - np.repeat(np.cumsum(several) - several, several)
    upper += np.repeat(low, several)
    root = _roots(len(rows), lower, upper)
    _, numbers = np.unique(root, return_inverse=True)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(numbers + 1, end - begin)
    return labels, int(numbers.max()) + 1


def set_cells(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each set cell, in reading order: ``np.nonzero``, three times as fast."""
    rows, columns = np.divmod(np.flatnonzero(mask.ravel()), mask.shape[1])
    return rows, columns


def strips(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """A picture in parts of whole rows, each with its first row; keeps what is made of it small."""
    rows = max(1, 1_000_000 // max(1, values.shape[1]))
    for top in range(0, len(values), rows):
        yield top, values[top : top + rows]


def region_boxes(labels: np.ndarray, count: int) -> list[Box]:
    """Top, left, bottom and right cell of each region, all of them its own."""
    top, left = np.full(count + 1, 2**31 - 1), np.full(count + 1, 2**31 - 1)
    bottom, right = np.zeros(count + 1, int), np.zeros(count + 1, int)
    for first, strip in strips(labels):
        rows, columns = set_cells(strip > 0)
        number, rows = strip[rows, columns], rows + first
        np.minimum.at(top, number, rows)
        np.maximum.at(bottom, number, rows)
        np.minimum.at(left, number, columns)
        np.maximum.at(right, number, columns)
    return [(int(top[k]), int(left[k]), int(bottom[k]), int(right[k])) for k in range(1, count + 1)]


def _roots(count: int, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The smallest connected number for each, by hooking and pointer jumping."""
    root = np.arange(count)
    while len(lower):
        a, b = root[lower], root[upper]
        differ = a != b
        if not differ.any():
            break
        lower, upper = lower[differ], upper[differ]
        a, b = a[differ], b[differ]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while True:
            jumped = root[root]
            if (jumped == root).all():
                break
            root = jumped
    return root
