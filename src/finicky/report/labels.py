"""Names beside points of a plot, placed so that none lies on another, on a point or on a line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

Spot = tuple[float, float]

# Where a name may stand, in points from its mark, best first.
_PLACES = (
    (9, 0, "left", "center"),
    (0, 9, "center", "bottom"),
    (0, -9, "center", "top"),
    (7, 6, "left", "bottom"),
    (-7, 6, "right", "bottom"),
    (7, -6, "left", "top"),
    (-7, -6, "right", "top"),
    (-9, 0, "right", "center"),
)
_MARK = 6.0  # half the side of what a mark covers, in px at 100 dots an inch
_LINE = 2.0  # the same of a line


def place_labels(
    axes: Axes,
    points: Sequence[Spot],
    texts: Sequence[str],
    *,
    colors: Sequence[str] = (),
    lines: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> list[Annotation]:
    """Write a text beside each point, the first points first; those without room stay unnamed.

    Call it last: the plot's limits and its layout must not change afterwards.

    Args:
        axes: Where.
        points: ``(x, y)`` in data units; no text covers any of them.
        texts: One a point.
        colors: One a text, or none for the colour of all text.
        lines: ``x`` and ``y`` of the corners of lines that no text may cover.
    """
    drawn = axes.get_figure(root=True)
    assert drawn is not None
    drawn.draw_without_rendering()
    taken = [_around(spot, _MARK) for spot in axes.transData.transform(np.reshape(points, (-1, 2)))]
    for x, y in lines:
        taken += [_around(spot, _LINE) for spot in _along(axes, x, y)]
    placed = []
    for number, (point, text) in enumerate(zip(points, texts, strict=True)):
        found = _place(axes, point, text, taken)
        if found is not None:
            if colors:
                found.set_color(colors[number])
            taken.append(found.get_window_extent())
            placed.append(found)
    return placed


def _place(axes: Axes, point: Spot, text: str, taken: Sequence[Bbox]) -> Annotation | None:
    for right, up, across, along in _PLACES:
        label = axes.annotate(
            text, point, (right, up), textcoords="offset points", ha=across, va=along, fontsize=8.5
        )
        box = label.get_window_extent()
        inside = axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)
        if inside and not any(box.overlaps(other) for other in taken):
            return label
        label.remove()
    return None


def _along(axes: Axes, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points of a line in px, a few px apart, ``(N, 2)``."""
    corners = axes.transData.transform(np.stack([x, y], axis=1))
    parts = [np.linspace(a, b, 200) for a, b in pairwise(corners)]
    return np.concatenate([corners, *parts])


def _around(spot: np.ndarray, reach: float) -> Bbox:
    x, y = spot
    return Bbox.from_extents(x - reach, y - reach, x + reach, y + reach)
