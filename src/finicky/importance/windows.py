"""The parts of the labelled photos on which filters are scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from finicky.backbones import Preprocessing
from finicky.classes import ClassTable, MaskClass
from finicky.data.pairs import Pair, load_pair
from finicky.importance.statistics import ScoringBatch
from finicky.masks import IGNORE, target_mask
from finicky.tiling import starts


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
