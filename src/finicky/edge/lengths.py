"""How long regions are: their middle lines without loops around specks and without spurs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from finicky.edge.components import Box, label_regions, region_boxes, strips
from finicky.edge.skeleton import Grid, closed, depths, skeleton

# A hole is a gap of the map, not the inside of a loop, up to this many widths of its region.
_HOLE_WIDTHS = 1.5
# And a gap that is open to a side is closed up to this many widths.
_GAP_WIDTHS = 0.5
_MOST_STEPS = 32
# A branch is a spur if it ends within this many half widths of where it leaves the line. It takes
# √2 for the corners of a square end; more forgives a ragged border.
_SPUR = 2.0
_SMOOTHING = 8
# Regions are measured on sheets of about so many cells; larger ones alone.
_SHEET_CELLS = 1_000_000
_LARGEST_SHEET = 4_000_000


def lengths(labels: np.ndarray, count: int) -> np.ndarray:
    """Length of each region's middle line in cells, ``(count,)``.

    Gaps and holes that are narrow in comparison with the region around them are filled first,
    branches that hardly leave the line's own width are cut off. What is left is smoothed, so that
    stairs of cells count as the slope that they stand for, and each end reaches to the region's
    border: n cells in a row are n, a disc is as long as its diameter. Arms of a branching region
    all count.

    Args:
        labels: ``(H, W)`` region numbers from 1; 0 is none.
        count: How many regions there are.
    """
    boxes = region_boxes(labels, count)
    found = np.zeros(count)
    for numbers in _sheets(boxes):
        sheet = _laid_out(labels, numbers, [boxes[k - 1] for k in numbers])
        sheet, times = _reduced(sheet)
        found[np.array(numbers) - 1] = times * _measured(sheet, len(numbers))
    return found


def _sheets(boxes: Sequence[Box]) -> Iterator[list[int]]:
    """Numbers of regions that are measured together: flat ones first, so that rows pack well."""
    order = sorted(range(1, len(boxes) + 1), key=lambda k: boxes[k - 1][2] - boxes[k - 1][0])
    together: list[int] = []
    cells = 0
    for number in order:
        top, left, bottom, right = boxes[number - 1]
        size = (bottom - top + 2) * (right - left + 2)
        if together and cells + size > _SHEET_CELLS:
            yield together
            together, cells = [], 0
        together.append(number)
        cells += size
    if together:
        yield together


def _laid_out(labels: np.ndarray, numbers: Sequence[int], boxes: Sequence[Box]) -> np.ndarray:
    """Regions cut out and laid in rows with a gap between, numbered from 1 in their order."""
    widest = max(right - left + 2 for _, left, _, right in boxes)
    across = max(widest + 1, math.isqrt(_SHEET_CELLS))
    places, x, y, row = [], 1, 1, 0
    for top, left, bottom, right in boxes:
        if x + right - left + 2 > across:
            x, y, row = 1, y + row, 0
        places.append((y, x))
        x += right - left + 2
        row = max(row, bottom - top + 2)
    used = across if y > 1 else x
    sheet = np.zeros((y + row, used), np.int32)
    for k, ((y, x), number, (top, left, bottom, right)) in enumerate(
        zip(places, numbers, boxes, strict=True), start=1
    ):
        own = labels[top : bottom + 1, left : right + 1] == number
        sheet[y : y + own.shape[0], x : x + own.shape[1]][own] = k
    return sheet


def _reduced(sheet: np.ndarray) -> tuple[np.ndarray, int]:
    """A sheet that is too large with coarser cells, and how many times coarser they are.

    Only a region alone makes a sheet that large, so cells of several never meet. Where any of the
    finer cells is set the coarser one is, so that no line breaks.
    """
    times = math.ceil(math.sqrt(sheet.size / _LARGEST_SHEET))
    if times <= 1:
        return sheet, 1
    rows, columns = (-(-side // times) * times for side in sheet.shape)
    wide = np.zeros((rows, columns), bool)
    wide[: sheet.shape[0], : sheet.shape[1]] = sheet > 0
    coarse = wide.reshape(rows // times, times, columns // times, times).any(axis=(1, 3))
    return np.pad(coarse, 1).astype(np.int32), times


def _measured(sheet: np.ndarray, count: int) -> np.ndarray:
    depth = _make_solid(sheet, count)
    lines = Lines(skeleton(sheet > 0), depth)
    lines.prune()
    return lines.measured(sheet.ravel()[lines.places], count)


def _make_solid(sheet: np.ndarray, count: int) -> np.ndarray:
    """Fill gaps and holes that are narrow in comparison with their region; returns its depths."""
    depth = depths(sheet > 0)
    widths = _widths(sheet, depth, count)
    steps = np.minimum(_GAP_WIDTHS / 2 * widths, _MOST_STEPS).astype(int)
    boxes = region_boxes(sheet, count) if steps.any() else []
    for number in np.flatnonzero(steps).tolist():
        top, left, bottom, right = boxes[number - 1]
        part = sheet[top : bottom + 1, left : right + 1]
        own = part == number
        part[closed(own, int(steps[number])) & (part == 0)] = number
    if len(boxes):
        depth = depths(sheet > 0)
    return _fill_holes(sheet, depth, count)


def _widths(sheet: np.ndarray, depth: np.ndarray, count: int) -> np.ndarray:
    """Four times the mean distance of a region's cells from its border: right for a strip."""
    total, size = np.zeros(count + 1), np.zeros(count + 1)
    for top, strip in strips(sheet):
        at = np.flatnonzero(strip.ravel() > 0)
        own, deep = strip.ravel()[at], depth[top : top + len(strip)].ravel()[at]
        total += np.bincount(own, weights=deep, minlength=count + 1)
        size += np.bincount(own, minlength=count + 1)
    return 4 * (total / np.maximum(size, 1) - 0.5) * (np.arange(count + 1) > 0)


def _fill_holes(sheet: np.ndarray, depth: np.ndarray, count: int) -> np.ndarray:
    """The width of a hole is the diameter of a disc of its area. Returns the new depths."""
    holes, found = label_regions(sheet == 0, diagonal=False)
    if found == 1:  # all around
        return depth
    inner = holes > 1
    hole = holes[inner]
    # A hole lies in one region: the one to the left of its first cell.
    first = np.unique(holes, return_index=True)[1][-(found - 1) :]
    owner = sheet.ravel()[first - 1]
    diameter = np.sqrt(4 / np.pi * np.bincount(hole, minlength=found + 1)[2:])
    open_ = np.ones(found - 1, bool)
    while open_.any():
        now = open_ & (diameter <= _HOLE_WIDTHS * _widths(sheet, depth, count)[owner])
        if not now.any():
            break
        sheet[inner] = np.where(now[hole - 2], owner[hole - 2], sheet[inner])
        open_ &= ~now  # what was filled makes the region wider: look again
        depth = depths(sheet > 0)
    return depth


class Lines:
    """Middle lines as a graph: cells, and which of them are linked.

    Cells are linked to those beside them, and across a corner where no cell beside both links
    them already.

    Attributes:
        places: Number of each cell in the raveled picture.
    """

    def __init__(self, lines: np.ndarray, depth: np.ndarray) -> None:
        self._grid = Grid(lines)
        self._width = lines.shape[1]
        self._depth = np.zeros(self._grid.shape, np.int32)
        self._depth[1:-1, 1:-1] = depth
        self._depth = self._depth.ravel()
        self._find()

    def prune(self) -> None:
        """Cut spurs off, shortest first, until none is left."""
        while len(gone := self._spurs()):
            self._grid.flat[gone] = False
            self._find()

    def measured(self, own: np.ndarray, count: int) -> np.ndarray:
        """Length of each region's lines; ``own`` is the region of each cell."""
        cells, one, two = self._cells, *self._links
        degree = self._degree
        y, x = (cells // self._grid.width).astype(float), (cells % self._grid.width).astype(float)
        moving = degree >= 2
        for _ in range(_SMOOTHING):
            for axis in (y, x):
                total = np.bincount(one, weights=axis[two], minlength=len(cells))
                total += np.bincount(two, weights=axis[one], minlength=len(cells))
                axis[moving] += (total[moving] / degree[moving] - axis[moving]) / 2
        steps = np.hypot(y[one] - y[two], x[one] - x[two])
        found = np.bincount(own[one], weights=steps, minlength=count + 1)
        # From an end to the border; a lone cell has two ends.
        reach = (self._depth[cells] - 0.5) * np.maximum(2 - degree, 0)
        return (found + np.bincount(own, weights=reach, minlength=count + 1))[1:]

    def _find(self) -> None:
        grid = self._grid
        cells = self._cells = grid.cells()
        index = np.full(grid.flat.shape, -1, np.int32)
        index[cells] = np.arange(len(cells))
        flat, w = grid.flat, grid.width
        links = []
        for offset, beside in ((1, ()), (w, ()), (w + 1, (1, w)), (w - 1, (-1, w))):
            linked = flat[cells + offset]
            for other in beside:
                linked &= ~flat[cells + other]
            links.append(np.stack([index[cells[linked]], index[cells[linked] + offset]]))
        self._links = np.concatenate(links, axis=1)
        self._degree = np.bincount(self._links.ravel(), minlength=len(cells))
        self.places = (cells // w - 1) * self._width + cells % w - 1

    def _spurs(self) -> np.ndarray:
        """Cells of the branches that are spurs, without the cell where they leave the line.

        Of several that leave the same cell only the shortest goes at a time: without it the rest
        may be a plain line.
        """
        ways, joints, long = self._branches()
        if not len(joints):
            return np.empty(0, int)
        order = np.lexsort((long, joints))
        first = order[np.r_[True, np.diff(joints[order]) > 0]]
        return self._cells[np.concatenate([ways[k] for k in first])]

    def _branches(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Spurs as indices of their cells, the joint of each, and how far from it each ends."""
        degree, depth = self._degree, self._depth[self._cells]
        table = self._table()
        ends = np.flatnonzero(degree == 1)
        limit = _SPUR * (depth.max(initial=0) - 0.5)
        here, before = ends, np.full(len(ends), -1)
        long, who = depth[ends] - 0.5, np.arange(len(ends))
        trail: list[tuple[np.ndarray, np.ndarray]] = []
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        while len(here):
            trail.append((who, here))
            near = table[here, :2]
            after = np.where(near[:, 0] == before, near[:, 1], near[:, 0])
            a, b = self._cells[here], self._cells[np.maximum(after, 0)]
            w = self._grid.width
            straight = (np.abs(a - b) == 1) | (np.abs(a - b) == w)
            long = long + np.where(straight, 1, np.sqrt(2))
            going = (after >= 0) & (long <= limit)
            joined = going & (degree[np.maximum(after, 0)] >= 3)
            spur = joined & (long <= _SPUR * (depth[np.maximum(after, 0)] - 0.5))
            found.append((who[spur], after[spur], long[spur]))
            on = going & ~joined & (degree[np.maximum(after, 0)] == 2)
            here, before, long, who = after[on], here[on], long[on], who[on]
        if not found:
            return [], np.empty(0, int), np.empty(0)
        spurs, joints, far = (np.concatenate(part) for part in zip(*found, strict=True))
        walkers = np.concatenate([w for w, _ in trail])
        cells = np.concatenate([c for _, c in trail])
        ordered = np.argsort(walkers, kind="stable")
        borders = np.searchsorted(walkers[ordered], np.stack([spurs, spurs + 1]))
        ways = [cells[ordered[a:b]] for a, b in borders.T.tolist()]
        return ways, joints, far

    def _table(self) -> np.ndarray:
        """Up to eight linked cells of each cell, -1 where there are fewer."""
        one = np.concatenate([self._links[0], self._links[1]])
        two = np.concatenate([self._links[1], self._links[0]])
        order = np.argsort(one, kind="stable")
        one, two = one[order], two[order]
        begin = np.searchsorted(one, np.arange(len(self._cells)))
        table = np.full((len(self._cells), 8), -1)
        table[one, np.arange(len(one)) - begin[one]] = two
        return table
