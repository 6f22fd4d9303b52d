"""Where the tiles of a photo lie."""

from __future__ import annotations

from finicky.errors import UsageError


def tile_origins(width: int, height: int, tile: int, stride: int) -> list[tuple[int, int]]:
    """Top-left corners ``(x, y)`` of square tiles that cover a photo, row by row.

    The last column and row are snapped to the border, so that every pixel is covered and no tile
    leaves the photo. A photo smaller than the tile in either direction has no tile.

    Args:
        width: Photo width in px.
        height: Photo height in px.
        tile: Side of a tile in px, at least 1.
        stride: Step between tiles in px, at least 1.
    """
    if tile < 1 or stride < 1:
        raise UsageError(f"tile and stride must be at least 1 px, got {tile} and {stride}")
    if width < tile or height < tile:
        return []
    return [(x, y) for y in starts(height, tile, stride) for x in starts(width, tile, stride)]


def starts(length: int, tile: int, stride: int) -> list[int]:
    """Where tiles begin along one side, the last one snapped to its end; ``tile <= length``."""
    last = length - tile
    found = list(range(0, last + 1, stride))
    if found[-1] != last:
        found.append(last)
    return found
