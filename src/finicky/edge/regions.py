"""From a grid of probabilities to regions with their measures, with numpy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finicky.edge.scan import Plan
from finicky.edge.skeleton import lengths, skeleton


@dataclass(frozen=True)
class Region:
    """One connected defect, in px of the photo.

    Attributes:
        label: Its number in the grid of labels, from 1.
        score_mean: Mean probability of its cells.
        score_max: Highest probability of its cells.
        x: Left of its box.
        y: Top of its box.
        width: Of its box.
        height: Of its box.
        area_px: Its area.
        length_px: Length of its middle line.
        mean_width_px: Area over length.
        orientation_deg: Of its main axis in [0, 180): 0 lies, 90 stands, 45 rises to the right.
    """

    label: int
    score_mean: float
    score_max: float
    x: int
    y: int
    width: int
    height: int
    area_px: int
    length_px: float
    mean_width_px: float
    orientation_deg: float


def label_regions(mask: np.ndarray, *, diagonal: bool = True) -> tuple[np.ndarray, int]:
    """Number the connected parts of a mask from 1, in reading order of their first cells.

    Args:
        mask: ``(H, W)`` bool.
        diagonal: Whether cells that touch at a corner are connected.

    Returns:
        ``(H, W)`` int32 numbers, 0 where the mask is false; and how many there are.
    """
    height, width = mask.shape
    wide = np.zeros((height, width + 2), np.int8)
    wide[:, 1:-1] = mask
    rows, at = np.nonzero(np.diff(wide, axis=1))
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


def find_regions(
    scores: np.ndarray, place: Plan, *, high: float, low: float, min_area: float = 0
) -> tuple[np.ndarray, tuple[Region, ...]]:
    """Regions of at least ``low`` that reach ``high`` somewhere and cover ``min_area`` px.

    Returns:
        ``(rows, columns)`` int32 numbers of the regions, from 1; and the regions, largest first.
    """
    labels, count = label_regions(scores >= low)
    if not count:
        return labels, ()
    y, x = place.edges()
    rows, columns = np.nonzero(labels)
    number = labels[rows, columns]
    most = np.zeros(count + 1)
    np.maximum.at(most, number, scores[rows, columns])
    areas = np.diff(y)[rows] * np.diff(x)[columns]
    area = np.bincount(number, weights=areas, minlength=count + 1)
    kept = (most >= high) & (area >= min_area)
    kept[0] = False
    order = np.flatnonzero(kept)
    order = order[np.argsort(-area[order], kind="stable")]
    renumber = np.zeros(count + 1, np.int32)
    renumber[order] = np.arange(1, len(order) + 1)
    labels[rows, columns] = renumber[number]
    return labels, _measured(labels, scores, place, len(order))


def _measured(
    labels: np.ndarray, scores: np.ndarray, place: Plan, count: int
) -> tuple[Region, ...]:
    if not count:
        return ()
    edges = place.edges()
    inside = labels > 0
    rows, columns = np.nonzero(inside)
    number, score = labels[inside], scores[inside].astype(float)
    length = lengths(skeleton(inside), labels, count) * place.cell
    size = np.bincount(number, minlength=count + 1)
    areas = np.diff(edges[0])[rows] * np.diff(edges[1])[columns]
    area = np.bincount(number, weights=areas, minlength=count + 1)
    mean = np.bincount(number, weights=score, minlength=count + 1)[1:] / size[1:]
    most = np.zeros(count + 1)
    np.maximum.at(most, number, score)
    turned = _orientations(number, rows, columns, count)
    boxes = _boxes(number, rows, columns, count)
    found = []
    for k in range(count):
        top, left, bottom, right = boxes[k]
        y0, x0, y1, x1 = edges[0][top], edges[1][left], edges[0][bottom + 1], edges[1][right + 1]
        found.append(
            Region(
                k + 1,
                float(mean[k]),
                float(most[k + 1]),
                int(x0),
                int(y0),
                int(x1 - x0),
                int(y1 - y0),
                int(area[k + 1]),
                float(length[k]),
                float(area[k + 1] / length[k]),
                float(turned[k]),
            )
        )
    return tuple(found)


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


def _boxes(
    number: np.ndarray, rows: np.ndarray, columns: np.ndarray, count: int
) -> Sequence[tuple[int, int, int, int]]:
    top, left = np.full(count + 1, 2**31 - 1), np.full(count + 1, 2**31 - 1)
    bottom, right = np.zeros(count + 1, int), np.zeros(count + 1, int)
    np.minimum.at(top, number, rows)
    np.maximum.at(bottom, number, rows)
    np.minimum.at(left, number, columns)
    np.maximum.at(right, number, columns)
    return [(int(top[k]), int(left[k]), int(bottom[k]), int(right[k])) for k in range(1, count + 1)]


def _orientations(
    number: np.ndarray, rows: np.ndarray, columns: np.ndarray, count: int
) -> np.ndarray:
    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(number, weights=values, minlength=count + 1) / size

    size = np.maximum(np.bincount(number, minlength=count + 1), 1)
    dx, dy = columns - mean(columns)[number], rows - mean(rows)[number]
    angle = 0.5 * np.arctan2(-2 * mean(dx * dy), mean(dx * dx) - mean(dy * dy))
    return np.mod(np.degrees(angle), 180)[1:] if count else np.empty(0, float) * math.nan
