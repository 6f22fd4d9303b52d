"""Middle lines of regions, with numpy alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# The eight neighbours in the order north, north-east, east, ... north-west.
AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


class Grid:
    """A mask with a margin of unset cells, its cells named by one number each.

    Attributes:
        flat: Whether each cell is set, row by row.
        width: Of a row, margin included.
        around: What must be added to a cell's number for each neighbour of `AROUND`.
    """

    def __init__(self, mask: np.ndarray) -> None:
        height, width = mask.shape
        self.shape, self.width = (height + 2, width + 2), width + 2
        self.flat = np.zeros(self.shape[0] * self.shape[1], bool)
        self.flat.reshape(self.shape)[1:-1, 1:-1] = mask
        self._last = np.zeros(len(self.flat), np.int32)
        self.around = np.array([dy * self.width + dx for dy, dx in AROUND])

    def cells(self) -> np.ndarray:
        """Numbers of the cells that are set, ascending."""
        return np.flatnonzero(self.flat)

    def border(self) -> np.ndarray:
        """Numbers of the set cells with an unset one to one of four sides."""
        set_ = self.flat.reshape(self.shape)
        found = set_.copy()
        inner = found[1:-1, 1:-1]
        inner &= ~(set_[:-2, 1:-1] & set_[2:, 1:-1] & set_[1:-1, :-2] & set_[1:-1, 2:])
        return np.flatnonzero(found)

    def neighbours(self, cells: np.ndarray, sides: slice = slice(None)) -> np.ndarray:
        """Numbers of the neighbours, ``(sides, cells)``."""
        return self.around[sides, None] + cells

    def codes(self, cells: np.ndarray) -> np.ndarray:
        """Which neighbours are set, a bit each, in the order of `AROUND`."""
        near = self.flat[self.neighbours(cells)]
        return np.packbits(near, axis=0, bitorder="little")[0]

    def once(self, cells: np.ndarray) -> np.ndarray:
        """The same cells, each once, without sorting them."""
        number = np.arange(len(cells), dtype=np.int32)
        self._last[cells] = number
        return cells[self._last[cells] == number]

    def inner(self, values: np.ndarray) -> np.ndarray:
        """Values of all cells as a picture without the margin."""
        return values.reshape(self.shape)[1:-1, 1:-1].copy()


def skeleton(mask: np.ndarray) -> np.ndarray:
    """Thin a mask to lines one cell wide that keep its connections and its ends.

    Cells are taken from the north, south, west and east side in turn while that breaks nothing
    (Rosenfeld 1975; what breaks nothing: the connectivity number of Yokoi et al. 1975). Unlike
    thinning after Zhang and Suen it never loses a square of two by two. Only cells beside those
    that went are looked at again, so that the time grows with the area.

    Args:
        mask: ``(H, W)`` bool.
    """
    grid = Grid(mask)
    flat = grid.flat
    todo = grid.border()
    while len(todo):
        exposed = []
        for table in _SIDES:
            out = table[grid.codes(todo)]
            gone = todo[out]
            flat[gone] = False
            near = grid.neighbours(gone).ravel()
            near = grid.once(near[flat[near]])
            exposed.append(near)
            todo = grid.once(np.concatenate([todo[~out], near]))
        todo = grid.once(np.concatenate(exposed))
        todo = todo[flat[todo]]
    return grid.inner(flat)


def depths(mask: np.ndarray) -> np.ndarray:
    """How many steps each set cell is from the nearest unset one, ``(H, W)`` int32; 0 if unset.

    Steps to four sides and to eight sides alternate, so that equal depths form octagons: within
    7 % of the distance as the crow flies. What is outside of the mask counts as unset.
    """
    grid = Grid(mask)
    depth = np.zeros(grid.flat.shape, np.int32)
    for level, taken in enumerate(_waves(grid, grid.border()), start=1):
        depth[taken] = level
    return grid.inner(depth)


def closed(mask: np.ndarray, steps: int) -> np.ndarray:
    """A mask without gaps narrower than twice ``steps`` cells; steps as in `depths`."""
    wide = np.pad(mask, steps + 1)
    grid = Grid(~wide)
    grown = wide.copy()
    near = grid.neighbours(Grid(wide).border(), slice(None, None, 2)).ravel()
    front = grid.once(near[grid.flat[near]])
    for taken, _ in zip(_waves(grid, front), range(steps), strict=False):
        grown.ravel()[(taken // grid.width - 1) * wide.shape[1] + taken % grid.width - 1] = True
    inner = slice(steps + 1, -steps - 1)
    return (depths(grown) > steps)[inner, inner] | mask


def _waves(grid: Grid, front: np.ndarray) -> Iterator[np.ndarray]:
    """Set cells in the order in which they are reached from a front; they are unset."""
    level = 1
    while len(front):
        grid.flat[front] = False
        yield front
        level += 1
        sides = slice(None, None, 2) if level % 2 else slice(None)
        near = grid.neighbours(front, sides).ravel()
        front = grid.once(near[grid.flat[near]])


def _neighbours(code: int) -> list[int]:
    return [code >> bit & 1 for bit in range(8)]


def _removable(code: int, side: int) -> bool:
    """Open on that side, no end of a line, and its neighbours stay connected without it."""
    p = _neighbours(code)
    parts = sum((1 - p[k]) * (1 - (1 - p[k + 1]) * (1 - p[(k + 2) % 8])) for k in (0, 2, 4, 6))
    return not p[side] and sum(p) > 1 and parts == 1


_SIDES = [np.array([_removable(code, side) for code in range(256)]) for side in (0, 4, 6, 2)]
