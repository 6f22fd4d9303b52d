"""The parts of the labelled photos on which filters are scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from finicky.backbones import Preprocessing
from finicky.classes import ClassTable, MaskClass
from finicky.data.pairs import Pair, load_pair
from finicky.importance.statistics import ScoringBatch
from finicky.masks import IGNORE, target_mask
from finicky.tiling import starts, tile_origins


@dataclass(frozen=True)
class WindowOptions:
    """How photos become scoring windows, always at their own resolution.

    Attributes:
        size: Side of a window in px; a smaller photo is one window as it is.
        per_photo: Windows taken from a photo at most, those with most target pixels first.
        batch: Windows in one forward pass at most.
    """

    size: int = 224
    per_photo: int = 2
    batch: int = 8


def scoring_batches(
    pairs: Sequence[Pair],
    *,
    classes: ClassTable,
    targets: Sequence[MaskClass],
    preprocessing: Preprocessing,
    options: WindowOptions = WindowOptions(),
) -> Iterator[ScoringBatch]:
    """Read photo after photo and yield batches of windows of one shape.

    Only a batch is held at a time, so that memory does not grow with the number of photos. Pixels
    marked "ignore" (255) do not count; all that is not a target, unlabelled pixels included,
    counts as background.
    """
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    for pair in pairs:
        for window in _windows(*load_pair(pair, classes), targets, options):
            full = len(waiting) == options.batch
            if waiting and (full or waiting[0][0].shape != window[0].shape):
                yield _batch(waiting, targets, preprocessing)
                waiting = []
            waiting.append(window)
    if waiting:
        yield _batch(waiting, targets, preprocessing)


@dataclass(frozen=True)
class TileOptions:
    """Which labelled tiles show criteria how tiles with and without the target differ.

    Attributes:
        size: Side of a tile in px; smaller photos give none.
        per_photo: Tiles of either class taken from a photo at most, spread over it.
        most: Tiles in all at most, so that memory has a limit.
        min_coverage: Least share of the target in a tile that shows it; tiles with less, but some,
            and tiles with pixels to ignore are left out.
        batch: Tiles in one forward pass at most.
    """

    size: int = 96
    per_photo: int = 6
    most: int = 2048
    min_coverage: float = 0.01
    batch: int = 32


def tile_batches(
    pairs: Sequence[Pair],
    *,
    classes: ClassTable,
    targets: Sequence[MaskClass],
    preprocessing: Preprocessing,
    options: TileOptions = TileOptions(),
    groups: Mapping[str, str] | None = None,
) -> Iterator[ScoringBatch]:
    """Labelled tiles of the photos, cut on the grid that a sweep cuts them on, batch by batch.

    Where ``most`` would be exceeded, each photo gives fewer.

    Args:
        pairs: Photos with masks.
        classes: What the masks' numbers mean.
        targets: The classes that make a tile a positive one.
        preprocessing: Of the backbone.
        options: Which tiles.
        groups: The group of each photo key; its key where there is none.
    """
    waiting: list[tuple[np.ndarray, np.ndarray, int, str]] = []
    each = max(1, min(options.per_photo, options.most // max(1, 2 * len(pairs))))
    for pair in pairs:
        group = (groups or {}).get(pair.key, pair.key)
        for part in _tiles(*load_pair(pair, classes), targets, options, each):
            waiting.append((*part, group))
            if len(waiting) == options.batch:
                yield _tile_batch(waiting, targets, preprocessing)
                waiting = []
    if waiting:
        yield _tile_batch(waiting, targets, preprocessing)


def _tiles(
    photo: np.ndarray,
    ids: np.ndarray,
    targets: Sequence[MaskClass],
    options: TileOptions,
    each: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    side = options.size
    wanted = target_mask(ids, targets)
    found: dict[int, list[tuple[slice, slice]]] = {0: [], 1: []}
    for x, y in tile_origins(ids.shape[1], ids.shape[0], side, side):
        part = slice(y, y + side), slice(x, x + side)
        coverage = wanted[part].mean()
        if coverage >= options.min_coverage and coverage > 0:
            found[1].append(part)
        elif coverage == 0 and not (ids[part] == IGNORE).any():
            found[0].append(part)
    for label, parts in found.items():
        step = max(1.0, len(parts) / each)
        for number in range(min(each, len(parts))):
            part = parts[int(number * step)]
            yield photo[part], ids[part], label


def _tile_batch(
    tiles: list[tuple[np.ndarray, np.ndarray, int, str]],
    targets: Sequence[MaskClass],
    preprocessing: Preprocessing,
) -> ScoringBatch:
    batch = _batch([(photo, ids) for photo, ids, _, _ in tiles], targets, preprocessing)
    return replace(
        batch,
        labels=tuple(label for _, _, label, _ in tiles),
        groups=tuple(group for *_, group in tiles),
    )


def _windows(
    photo: np.ndarray, ids: np.ndarray, targets: Sequence[MaskClass], options: WindowOptions
) -> list[tuple[np.ndarray, np.ndarray]]:
    height, width = ids.shape
    side_x, side_y = min(options.size, width), min(options.size, height)
    wanted = target_mask(ids, targets)
    found = []
    for y in starts(height, side_y, side_y):
        for x in starts(width, side_x, side_x):
            part = slice(y, y + side_y), slice(x, x + side_x)
            found.append((-int(wanted[part].sum()), y, x))
    return [
        (photo[y : y + side_y, x : x + side_x], ids[y : y + side_y, x : x + side_x])
        for _, y, x in sorted(found)[: options.per_photo]
    ]


def _batch(
    windows: list[tuple[np.ndarray, np.ndarray]],
    targets: Sequence[MaskClass],
    preprocessing: Preprocessing,
) -> ScoringBatch:
    photos = torch.from_numpy(np.stack([photo for photo, _ in windows]))
    ids = np.stack([ids for _, ids in windows])
    ignored = ids == IGNORE
    return ScoringBatch(
        inputs=preprocessing(photos),
        masks=torch.from_numpy(target_mask(ids, targets).astype(np.float32)),
        valid=torch.from_numpy((~ignored).astype(np.float32)) if ignored.any() else None,
    )
