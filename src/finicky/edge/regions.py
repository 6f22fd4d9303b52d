"""From a grid of probabilities to regions with their measures, with numpy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from finicky.edge.labeling import label_regions, region_boxes
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
    length = lengths(labels, count) * place.cell
    size = np.bincount(number, minlength=count + 1)
    areas = np.diff(edges[0])[rows] * np.diff(edges[1])[columns]
    area = np.bincount(number, weights=areas, minlength=count + 1)
    mean = np.bincount(number, weights=score, minlength=count + 1)[1:] / size[1:]
    most = np.zeros(count + 1)
    np.maximum.at(most, number, score)
    turned = _orientations(number, rows, columns, count)
    boxes = region_boxes(labels, count)
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


def _orientations(
    number: np.ndarray, rows: np.ndarray, columns: np.ndarray, count: int
) -> np.ndarray:
    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(number, weights=values, minlength=count + 1) / size

    size = np.maximum(np.bincount(number, minlength=count + 1), 1)
    dx, dy = columns - mean(columns)[number], rows - mean(rows)[number]
    angle = 0.5 * np.arctan2(-2 * mean(dx * dy), mean(dx * dx) - mean(dy * dy))
    return np.mod(np.degrees(angle), 180)[1:] if count else np.empty(0, float) * math.nan
