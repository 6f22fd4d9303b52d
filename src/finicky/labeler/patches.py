"""How changes to a mask travel: rectangles of runs, in which untouched pixels are marked as such.

A patch is a sequence of rectangles, each within one 512 px tile of the photo::

    x  y  width  height  runs    five little-endian uint32
    run * runs                   uint32: value << 24 | keep << 23 | length

Runs go row by row through the rectangle. A run with the ``keep`` bit leaves its pixels as they
are, so applying a patch again changes nothing and strokes of two people can be merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from finicky.errors import DataError

TILE = 512
_KEEP = 1 << 23
_LENGTH = _KEEP - 1
_HEADER = 20


@dataclass(frozen=True)
class Patch:
    """One rectangle: ``values`` and ``keep`` are ``(height, width)``, uint8 and bool."""

    x: int
    y: int
    values: np.ndarray
    keep: np.ndarray


def decode(body: bytes, *, width: int, height: int, allowed: frozenset[int]) -> list[Patch]:
    """The rectangles of a body, all of them checked before any is used.

    Args:
        body: Any bytes.
        width: Of the photo in px.
        height: Of the photo in px.
        allowed: The values that a mask of the project may hold.

    Raises:
        DataError: The body is cut, leaves the photo, or holds another value.
    """
    found, at = [], 0
    while at < len(body):
        if len(body) - at < _HEADER:
            raise DataError("a stroke arrived cut off")
        x, y, w, h, count = (int(v) for v in np.frombuffer(body, "<u4", 5, at))
        at += _HEADER
        if not (1 <= w <= TILE and 1 <= h <= TILE and x + w <= width and y + h <= height):
            raise DataError(f"a stroke leaves the photo: {w}x{h} px at {x}, {y}")
        if len(body) - at < 4 * count:
            raise DataError("a stroke arrived cut off")
        found.append(_patch(x, y, w, h, np.frombuffer(body, "<u4", count, at), allowed))
        at += 4 * count
    return found


def _patch(x: int, y: int, w: int, h: int, runs: np.ndarray, allowed: frozenset[int]) -> Patch:
    lengths = (runs & _LENGTH).astype(np.int64)
    if lengths.sum() != w * h:
        raise DataError(f"a stroke of {w}x{h} px holds {int(lengths.sum())} pixels")
    keep, values = (runs & _KEEP) != 0, (runs >> 24).astype(np.uint8)
    unknown = set(values[~keep].tolist()) - allowed
    if unknown:
        raise DataError(f"a stroke holds the values {sorted(unknown)[:5]}, which are no classes")
    return Patch(
        x,
        y,
        np.repeat(values, lengths).reshape(h, w),
        np.repeat(keep, lengths).reshape(h, w),
    )


def apply(patches: list[Patch], ids: np.ndarray) -> None:
    """Write the patches, in order, into ``(H, W)`` uint8 ``ids``."""
    for patch in patches:
        h, w = patch.values.shape
        part = ids[patch.y : patch.y + h, patch.x : patch.x + w]
        np.copyto(part, patch.values, where=~patch.keep)


def encode(ids: np.ndarray) -> bytes:
    """All of a ``(H, W)`` uint8 mask that is not 0, tile by tile."""
    return b"".join(_tiles(ids))


def _tiles(ids: np.ndarray) -> Iterator[bytes]:
    height, width = ids.shape
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            tile = ids[y : y + TILE, x : x + TILE]
            if tile.any():
                runs = _runs(tile.ravel())
                header = np.array([x, y, tile.shape[1], tile.shape[0], len(runs)], "<u4")
                yield header.tobytes() + runs.tobytes()


def _runs(flat: np.ndarray) -> np.ndarray:
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
    lengths = np.diff(np.r_[starts, flat.size])
    return (flat[starts].astype("<u4") << 24) | lengths.astype("<u4")
