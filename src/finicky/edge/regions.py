"""From a grid of probabilities to regions with their measures, with numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finicky.edge.components import label_regions, region_boxes, set_cells, strips
from finicky.edge.lengths import lengths
from finicky.edge.scan import Plan


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
    sums = _Sums(labels, scores, place, count)
    kept = (sums.most >= high) & (sums.area >= min_area)
    kept[0] = False
    order = np.flatnonzero(kept)
    order = order[np.argsort(-sums.area[order], kind="stable")]
    renumber = np.zeros(count + 1, np.int32)
    renumber[order] = np.arange(1, len(order) + 1)
    labels = renumber[labels]
    return labels, _measured(labels, sums, place, order)


class _Sums:
    """Of the cells of each region, by its number: made strip by strip, so that little is held.

    Attributes:
        size: Cells.
        area: In px of the photo.
        score: Sum of the probabilities.
        most: Highest probability.
        moments: Sums of row, column, and of their products, ``(5, count + 1)``.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, place: Plan, count: int) -> None:
        y, x = place.edges()
        high, wide = np.diff(y), np.diff(x)
        self.size, self.area, self.score, self.most = np.zeros((4, count + 1))
        self.moments = np.zeros((5, count + 1))
        for top, strip in strips(labels):
            rows, columns = set_cells(strip > 0)
            number = strip[rows, columns]
            score = scores[top : top + len(strip)][rows, columns]

            def total(values: np.ndarray, number: np.ndarray = number) -> np.ndarray:
                return np.bincount(number, weights=values, minlength=count + 1)

            rows = rows + top
            self.size += np.bincount(number, minlength=count + 1)
            self.area += total(high[rows] * wide[columns])
            self.score += total(score)
            np.maximum.at(self.most, number, score)
            products = (rows, columns, rows * rows, columns * columns, rows * columns)
            self.moments += [total(values) for values in products]

    def orientations(self) -> np.ndarray:
        """Of the main axes, in degrees in [0, 180)."""
        y, x, yy, xx, xy = self.moments / np.maximum(self.size, 1)
        angle = 0.5 * np.arctan2(-2 * (xy - x * y), (xx - x * x) - (yy - y * y))
        return np.mod(np.degrees(angle), 180)


def _measured(
    labels: np.ndarray, sums: _Sums, place: Plan, order: np.ndarray
) -> tuple[Region, ...]:
    """The regions of which ``order`` holds the earlier numbers, numbered anew from 1."""
    count = len(order)
    if not count:
        return ()
    y, x = place.edges()
    length = lengths(labels, count) * place.cell
    turned = sums.orientations()
    found = []
    for k, (old, box) in enumerate(zip(order, region_boxes(labels, count), strict=True)):
        top, left, bottom, right = box
        found.append(
            Region(
                k + 1,
                float(sums.score[old] / sums.size[old]),
                float(sums.most[old]),
                int(x[left]),
                int(y[top]),
                int(x[right + 1] - x[left]),
                int(y[bottom + 1] - y[top]),
                int(sums.area[old]),
                float(length[k]),
                float(sums.area[old] / length[k]),
                float(turned[old]),
            )
        )
    return tuple(found)
