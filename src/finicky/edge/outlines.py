"""Outlines of regions as polygons with holes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from finicky.edge.components import label_regions, set_cells

Ring = list[tuple[int, int]]


def outlines(mask: np.ndarray) -> list[list[Ring]]:
    """The polygons of a mask: each its outer ring, then its holes.

    Rings run along the borders of cells through corners ``(column, row)``, are closed (the first
    point is repeated) and never cross; parts that touch only at a corner are polygons of their
    own. Outer rings run clockwise as seen with y down, holes the other way; each starts at its
    topmost corner, of several at the leftmost.

    Args:
        mask: ``(H, W)`` bool.
    """
    wide = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), bool)
    wide[1:-1, 1:-1] = mask
    row, column, way, after = _edges(wide)
    turned = np.ones(len(way), bool)
    turned[after] = way[after] != way
    corner = list(zip((column - 1).tolist(), (row - 1).tolist(), strict=True))
    turns, follow = turned.tolist(), after.tolist()
    polygons: list[list[Ring]] = []
    holes: list[tuple[int, Ring]] = []
    starts: list[int] = []
    for start, ring in _rings(follow):
        points = [corner[edge] for edge in ring if turns[edge]]
        points.append(points[0])
        if way[start] == 0:  # its first corner has the mask below: it runs around the mask
            polygons.append([points])
            starts.append(start)
        else:
            holes.append((start, points))
    if holes and len(polygons) > 1:
        parts = label_regions(wide, diagonal=False)[0]
        owner = {int(parts[row[edge], column[edge]]): k for k, edge in enumerate(starts)}
        for start, points in holes:  # to the left of its first edge, which goes down
            polygons[owner[int(parts[row[start], column[start] - 1])]].append(points)
    elif holes:
        polygons[0].extend(points for _, points in holes)
    return polygons


# Where a border edge goes: 0 right, 1 down, 2 left, 3 up. The set cell lies to its right hand
# (below an edge that goes right). Its place is the corner that it starts at.
_DOWN, _ACROSS = np.array([0, 1, 0, -1]), np.array([1, 0, -1, 0])


def _edges(wide: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and way of all border edges in reading order, and which one follows each."""
    sides = (
        (wide[1:, :] & ~wide[:-1, :], 0, (1, 0)),  # the cell below is set: goes right
        (wide[:, :-1] & ~wide[:, 1:], 1, (0, 1)),  # left cell set: goes down
        (wide[:-1, :] & ~wide[1:, :], 2, (1, 1)),  # cell above set: goes left
        (wide[:, 1:] & ~wide[:, :-1], 3, (1, 1)),  # right cell set: goes up
    )
    width, keys = wide.shape[1] + 1, []
    for border, side, (down, across) in sides:
        row, column = set_cells(border)
        keys.append(((row + down) * width + column + across) * 4 + side)
    key = np.sort(np.concatenate(keys))
    corner, way = np.divmod(key, 4)
    end = corner + _DOWN[way] * width + _ACROSS[way]
    after = np.full(len(key), -1)
    for turn in (3, 0, 1):  # a right turn wins: cells that touch at a corner stay apart
        step = end * 4 + (way + turn) % 4
        place = np.minimum(np.searchsorted(key, step), len(key) - 1)
        after = np.where(key[place] == step, place, after)
    row, column = np.divmod(corner, width)
    return row, column, way, after


def _rings(follow: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Edges ring by ring, each from its first in reading order."""
    seen = bytearray(len(follow))
    for start in range(len(follow)):
        ring: list[int] = []
        edge = start
        while not seen[edge]:
            seen[edge] = 1
            ring.append(edge)
            edge = follow[edge]
        if ring:
            yield start, ring
