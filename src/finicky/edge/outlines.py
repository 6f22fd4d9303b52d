"""Outlines of regions as polygons with holes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from finicky.edge.components import label_regions

Ring = list[tuple[int, int]]


def outlines(mask: np.ndarray) -> list[list[Ring]]:
    """The polygons of a mask: each its outer ring, then its holes.

    Rings run along the borders of cells through corners ``(column, row)``, are closed (the first
    point is repeated) and never cross; parts that touch only at a corner are polygons of their
    own. Outer rings run clockwise as seen with y down, holes the other way.

    Args:
        mask: ``(H, W)`` bool.
    """
    wide = np.pad(mask, 1)
    parts, count = label_regions(wide, diagonal=False)
    following = _edges(wide)
    polygons: list[tuple[list[Ring], list[Ring]]] = [([], []) for _ in range(count)]
    while following:
        start = next(iter(following))
        ring: list[_Edge] = []
        place = start
        while place in following:
            ring.append(place)
            place = following.pop(place)
        corners = _corners(ring)
        outer = _area(corners) > 0
        part = int(parts[_inside(start)])
        polygons[part - 1][0 if outer else 1].append(corners)
    return [[*outer, *holes] for outer, holes in polygons]


# A directed border edge: the corner it starts at (row, column) and where it goes: 0 right, 1 down,
# 2 left, 3 up. The set cell lies to its right hand (below an edge that goes right).
_Edge = tuple[int, int, int]
_STEP = ((0, 1), (1, 0), (0, -1), (-1, 0))
_CELL = ((0, 0), (0, -1), (-1, -1), (-1, 0))


def _edges(wide: np.ndarray) -> dict[_Edge, _Edge]:
    found: set[_Edge] = set()
    sides = (
        (wide[1:, :] & ~wide[:-1, :], 0, (1, 0)),  # the cell below is set: goes right
        (wide[:, :-1] & ~wide[:, 1:], 1, (0, 1)),  # left cell set: goes down
        (wide[:-1, :] & ~wide[1:, :], 2, (1, 1)),  # cell above set: goes left
        (wide[:, 1:] & ~wide[:, :-1], 3, (1, 1)),  # right cell set: goes up
    )
    for border, way, (down, across) in sides:
        for row, column in np.argwhere(border).tolist():
            found.add((row + down, column + across, way))
    following = {}
    for row, column, way in found:
        down, across = _STEP[way]
        end = (row + down, column + across)
        # Right turn first: cells that touch at a corner stay apart.
        for turn in (1, 0, 3):
            step = (*end, (way + turn) % 4)
            if step in found:
                following[row, column, way] = step
                break
    return following


def _inside(edge: _Edge) -> tuple[int, int]:
    row, column, way = edge
    down, across = _CELL[way]
    return row + down, column + across


def _corners(ring: list[_Edge]) -> Ring:
    """Only where the way turns, in cells of the mask without its margin, closed."""
    kept = [
        (c - 1, r - 1)
        for (r, c, way), before in zip(ring, _rolled(ring), strict=True)
        if way != before[2]
    ]
    return [*kept, kept[0]]


def _rolled(ring: list[_Edge]) -> list[_Edge]:
    return [ring[-1], *ring[:-1]]


def _area(ring: Ring) -> int:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))
