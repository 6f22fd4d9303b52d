"""Tiles of labelled photos with their masks, in memory: what a network is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finicky.classes import ClassTable, MaskClass
from finicky.data.pairs import Pair, load_pair
from finicky.data.splits import Assignment
from finicky.masks import IGNORE, target_mask
from finicky.progress import Progress, silent
from finicky.tiling import tile_origins


@dataclass(frozen=True)
class MarkedCut:
    """Tiles and what was marked on them.

    Attributes:
        tiles: ``(N, S, S, 3)`` uint8 RGB.
        masks: ``(N, S, S)`` uint8: 1 target, 0 anything else, 255 not to be counted.
        labels: ``(N,)`` int64, 1 = target.
        groups: ``(N,)`` str, the photograph that a tile came from.
    """

    tiles: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


def cut_marked(
    pairs: Sequence[Pair],
    *,
    classes: ClassTable,
    targets: Sequence[MaskClass],
    splits: Mapping[str, Assignment],
    tile: int,
    stride: int,
    min_coverage: float = 0.01,
    per_photo: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> MarkedCut:
    """Cut photos as `cut_tiles` does, overlapping and with their masks.

    Args:
        pairs: Photos with masks.
        classes: What the masks may hold.
        targets: The classes that count.
        splits: Split and group of each photo key.
        tile: Side of a tile in px.
        stride: Step between tiles in px; below ``tile`` they overlap, and a defect is seen at
            several places of a tile.
        min_coverage: Least share of target in a positive tile; tiles between that and none are
            left out, as are those without target but with pixels not to be counted.
        per_photo: At most so many of each class from one photo, drawn by ``seed``.
        seed: Of the draw.
        progress: Told of each photo.
    """
    found: list[tuple[np.ndarray, np.ndarray, int, str]] = []
    for done, pair in enumerate(pairs, start=1):
        photo, ids = load_pair(pair, classes)
        mask = target_mask(ids, targets).astype(np.uint8)
        mask[ids == IGNORE] = IGNORE
        places = _places(mask, tile, stride, min_coverage)
        for label in (0, 1):
            mine = _drawn([p for p, own in places if own == label], pair.key, per_photo, seed)
            for x, y in mine:
                part = slice(y, y + tile), slice(x, x + tile)
                found.append((photo[part], mask[part], label, splits[pair.key][1]))
        progress("tiles to train on", done, len(pairs))
    return MarkedCut(
        np.stack([tile for tile, *_ in found]) if found else np.zeros((0, tile, tile, 3), np.uint8),
        np.stack([mask for _, mask, *_ in found]) if found else np.zeros((0, tile, tile), np.uint8),
        np.array([label for *_, label, _ in found], dtype=np.int64),
        np.array([group for *_, group in found]),
    )


def _places(
    mask: np.ndarray, tile: int, stride: int, min_coverage: float
) -> list[tuple[tuple[int, int], int]]:
    """Where tiles lie whose label is certain, and that label."""
    height, width = mask.shape
    found = []
    for x, y in tile_origins(width, height, tile, stride):
        part = mask[y : y + tile, x : x + tile]
        coverage = float((part == 1).mean())
        if coverage > 0 and coverage >= min_coverage:
            found.append(((x, y), 1))
        elif coverage == 0 and not (part == IGNORE).any():
            found.append(((x, y), 0))
    return found


def _drawn(
    places: list[tuple[int, int]], key: str, most: int | None, seed: int
) -> list[tuple[int, int]]:
    if most is None or len(places) <= most:
        return places

    def draw(place: tuple[int, int]) -> bytes:
        return hashlib.sha256(f"{seed}\n{key}\n{place}".encode("utf-8", "surrogateescape")).digest()

    return sorted(sorted(places, key=draw)[:most])
