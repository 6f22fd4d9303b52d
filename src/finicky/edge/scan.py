"""Tiles over a photo, merged into one grid of probabilities."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from finicky.edge.bundle import Session
from finicky.edge.photos import Photo
from finicky.tiling import starts

Merge = Literal["gaussian", "constant"]
# Of the tile's side; MONAI's default for sliding windows.
SIGMA = 0.125
# Pixels of a batch: 16 tiles of 96 px. More makes nothing faster and takes memory.
_BATCH_PIXELS = 16 * 96 * 96


@dataclass(frozen=True)
class Plan:
    """Where tiles lie on a photo and where their answers go; the photo is padded to a tile.

    Attributes:
        width: Of the photo, in px.
        height: Of the photo, in px.
        tile: Side of a tile in px.
        xs: Left sides of the columns of tiles.
        ys: Tops of the rows of tiles.
        cell: Side of a cell of the grid in px.
    """

    width: int
    height: int
    tile: int
    xs: tuple[int, ...]
    ys: tuple[int, ...]
    cell: float

    @property
    def tiles(self) -> int:
        return len(self.xs) * len(self.ys)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid over the photo itself."""
        return math.ceil(self.height / self.cell), math.ceil(self.width / self.cell)

    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Borders of the cells in px: of ``rows + 1`` rows and ``columns + 1`` columns."""
        rows, columns = self.shape
        y = np.minimum(np.rint(np.arange(rows + 1) * self.cell), self.height).astype(int)
        x = np.minimum(np.rint(np.arange(columns + 1) * self.cell), self.width).astype(int)
        return y, x


def plan(width: int, height: int, *, tile: int, stride: int, cell: float | None) -> Plan:
    """Cover a photo; without a cell of the map the grid is as fine as the stride."""
    across, down = max(width, tile), max(height, tile)
    return Plan(
        width,
        height,
        tile,
        tuple(starts(across, tile, stride)),
        tuple(starts(down, tile, stride)),
        float(stride) if cell is None else cell,
    )


def scan(
    photo: Photo,
    session: Session,
    place: Plan,
    pool: ThreadPoolExecutor | None = None,
    *,
    merge: Merge = "gaussian",
    stopped: Callable[[], bool] = lambda: False,
    ahead: int = 4,
) -> np.ndarray:
    """The probability that a cell is target, ``(rows, columns)`` float32, for all of a photo.

    Where tiles overlap, their answers are averaged with a weight that falls off from the middle
    of the tile (or is constant). The result does not depend on the number of threads.

    Args:
        photo: What to look at.
        session: The model.
        place: From `plan`.
        pool: Runs batches beside each other; without one they run here.
        merge: gaussian (sigma 0.125 tiles) or constant.
        stopped: Asked before each batch; when true, `InterruptedError` is raised.
        ahead: Batches that may wait in the pool.
    """
    merger = _Merger(place, merge)
    waiting: deque[tuple[list[tuple[int, int]], Future]] = deque()
    for spots, tiles in _batches(photo, place):
        if stopped():
            raise InterruptedError
        if pool is None:
            merger.add(spots, *session.run(tiles))
            continue
        waiting.append((spots, pool.submit(session.run, tiles)))
        if len(waiting) > ahead:
            done, answer = waiting.popleft()
            merger.add(done, *answer.result())
    for done, answer in waiting:
        merger.add(done, *answer.result())
    return merger.grid()


def batch_size(tile: int) -> int:
    """How many tiles of that side, in px, are looked at together."""
    return max(1, min(32, _BATCH_PIXELS // tile**2))


def _batches(photo: Photo, place: Plan) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
    size = batch_size(place.tile)
    spots: list[tuple[int, int]] = []
    tiles = np.empty((size, place.tile, place.tile, 3), np.uint8)
    for row, y in enumerate(place.ys):
        band = _padded(photo.rows(y, min(y + place.tile, photo.height)), place.tile)
        for column, x in enumerate(place.xs):
            tiles[len(spots)] = band[:, x : x + place.tile]
            spots.append((row, column))
            if len(spots) == size:
                yield spots, tiles
                spots, tiles = [], np.empty_like(tiles)
    if spots:
        yield spots, tiles[: len(spots)]


def _padded(band: np.ndarray, tile: int) -> np.ndarray:
    """At least a tile high and wide, by reflection."""
    down, across = max(0, tile - band.shape[0]), max(0, tile - band.shape[1])
    if not down and not across:
        return band
    return np.pad(band, ((0, down), (0, across), (0, 0)), mode="reflect")


class _Merger:
    """Sums weighted answers; rows and columns have their own weights, so the sums factor."""

    def __init__(self, place: Plan, merge: Merge) -> None:
        self._place, self._merge = place, merge
        down = math.ceil(max(place.height, place.tile) / place.cell)
        across = math.ceil(max(place.width, place.tile) / place.cell)
        self._sums = np.zeros((down, across), np.float32)
        self._parts: tuple[_Axis, _Axis] | None = None

    def add(
        self, spots: list[tuple[int, int]], probabilities: np.ndarray, found: np.ndarray | None
    ) -> None:
        maps = probabilities[:, 1].reshape(-1, 1, 1) if found is None else found
        if self._parts is None:
            place, (rows, columns) = self._place, maps.shape[1:]
            down, across = self._sums.shape
            self._parts = (
                _axis(place.ys, place.tile, rows, place.cell, down, self._merge),
                _axis(place.xs, place.tile, columns, place.cell, across, self._merge),
            )
        y, x = self._parts
        for (row, column), values in zip(spots, maps, strict=True):
            part = _spread(y.shares[row], values, x.shares[column])
            top, left = y.first[row], x.first[column]
            self._sums[top : top + part.shape[0], left : left + part.shape[1]] += part

    def grid(self) -> np.ndarray:
        assert self._parts is not None
        y, x = self._parts
        rows, columns = self._place.shape
        whole = self._sums[:rows, :columns]
        whole /= y.total[:rows, None]
        whole /= x.total[:columns]
        return np.clip(whole, 0, 1, out=whole)


def _spread(down: np.ndarray, values: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The answers of a tile on the cells of the grid, weighted."""
    values = values * down[:, None] if down.ndim == 1 else down @ values
    return values * across if across.ndim == 1 else values @ across.T


@lru_cache(maxsize=8)  # photos of one folder mostly have one size
def _axis(
    origins: tuple[int, ...], tile: int, answers: int, cell: float, cells: int, merge: Merge
) -> _Axis:
    return _Axis(origins, tile, answers, cell, cells, merge)


class _Axis:
    """Along one side: how much of each answer of a tile goes to which cells of the grid."""

    def __init__(
        self,
        origins: tuple[int, ...],
        tile: int,
        answers: int,
        cell: float,
        cells: int,
        merge: Merge,
    ) -> None:
        step = tile / answers
        self.first = [int(origin // cell) for origin in origins]
        self.shares: list[np.ndarray] = []
        self.total = np.zeros(cells)
        for origin, first in zip(origins, self.first, strict=True):
            last = min(cells, math.ceil((origin + tile) / cell - 1e-9))
            low = np.arange(first, last)[:, None] * cell
            left = origin + np.arange(answers)[None, :] * step
            share = np.minimum(low + cell, left + step) - np.maximum(low, left)
            share = np.clip(share, 0, None)
            if merge == "gaussian":
                middle = np.clip(low + cell / 2, origin, origin + tile)
                away = (middle - origin - tile / 2) / (SIGMA * tile)
                share *= np.exp(-0.5 * away**2)
            self.total[first:last] += share.sum(1)
            # Where cells and answers coincide, weights alone do what the matrix would.
            aligned = share.shape[0] == share.shape[1] and step == cell and origin % cell == 0
            self.shares.append((share.diagonal().copy() if aligned else share).astype(np.float32))
        self.total = self.total.astype(np.float32)
