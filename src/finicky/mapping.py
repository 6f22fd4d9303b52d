"""From crops of labelled photos to a pixel head: which taps, which thresholds, how good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from finicky.backbones import Backbone
from finicky.data.crops import Crop
from finicky.errors import DataError
from finicky.evaluation.pixels import (
    STEPS,
    THRESHOLDS,
    PixelCurve,
    PixelQuality,
    f1_interval,
    hysteresis,
    pixel_curve,
    quality_at,
    sum_curves,
)
from finicky.progress import Progress, silent
from finicky.tiling import tile_origins
from finicky.training import (
    PixelHead,
    PixelMap,
    PixelSettings,
    fit_pixel_head,
    sample_cells,
    stage_taps,
)
from finicky.training.pixel_head import PHOTO, maps_at_once

OVERLAP = 0.5
BATCH = 32  # tiles of 96 px; fewer of larger ones
# Maps coarser than this many px a cell tell little more than the tile does.
COARSEST_PX = 5.0
# A cheaper head is taken where its F1 on validation is at most so much lower.
WORTH = 0.01

Heads = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class MapThresholds:
    """A region of the map counts that is everywhere at least ``low`` and somewhere ``high``."""

    high: float
    low: float


@dataclass(frozen=True)
class TrainedMap:
    """A pixel head, how it was chosen, and how well its map follows the masks.

    Attributes:
        head: The chosen one.
        thresholds: Chosen on validation.
        validation: At these thresholds, all pixels of the split's crops taken together.
        test: The same on test, which nothing was chosen on; ``None`` without test crops.
        test_f1_interval: 95 %, by photo.
        tried: For each set of taps its best F1 on validation.
    """

    head: PixelHead
    thresholds: MapThresholds
    validation: PixelQuality
    test: PixelQuality | None
    test_f1_interval: tuple[float, float] | None
    tried: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON, without the head's weights."""
        return {
            "taps": list(self.head.taps),
            "map_px": self.head.map_px,
            "map_high": self.thresholds.high,
            "map_low": self.thresholds.low,
            "validation": asdict(self.validation),
            "test": asdict(self.test) if self.test else None,
            "test_f1_interval": list(self.test_f1_interval) if self.test_f1_interval else None,
            "tolerance_px": 2,
            "tried": self.tried,
        }


def train_map(
    backbone: Backbone,
    train: Sequence[Crop],
    validation: Sequence[Crop],
    test: Sequence[Crop] = (),
    *,
    size: int,
    settings: PixelSettings = PixelSettings(),
    given: Sequence[PixelHead] = (),
    progress: Progress = silent,
) -> TrainedMap:
    """Fit heads to several sets of taps, choose one and its thresholds on validation.

    Args:
        backbone: Pruned or not; it is not changed.
        train: Crops to fit on.
        validation: Crops to choose on, from other photographs.
        test: Crops to report on, from others again.
        size: Side of a tile in px.
        settings: Of the fit.
        given: Heads that the network was trained with; they compete with those fitted here.
        progress: Told of each part.

    Raises:
        DataError: Train or validation shows no target.
        UnsupportedModelError: The network has no maps to listen to.
    """
    if not any((crop.mask == 1).any() for crop in validation):
        raise DataError("no validation photo shows the target")
    taps = stage_taps(backbone.module, size)
    photos, masks = [c.photo for c in train], [c.mask for c in train]
    sets = tap_sets(taps, size)
    wanted = {grid: {n for side, names in sets if side == grid for n in names} for grid, _ in sets}
    samples = sample_cells(
        backbone,
        photos,
        masks,
        size=size,
        taps=taps,
        wanted=wanted,
        settings=settings,
        progress=progress,
    )
    heads = [
        fit_pixel_head(samples[cells], names, size=size, cells=cells, settings=settings)
        for cells, names in sets
    ]
    del samples
    heads = [*heads, *given]
    maps = _maps(backbone, heads, validation, progress)
    curves = [
        [pixel_curve(m, c.mask) for m, c in zip(found, validation, strict=True)] for found in maps
    ]
    scores = [float(sum_curves(each).f1.max()) for each in curves]
    index = _cheapest_good(heads, scores)
    thresholds = choose_thresholds(maps[index], validation, sum_curves(curves[index]))
    tested = _maps(backbone, [heads[index]], test, progress)[0] if test else []
    final, interval = _quality(tested, test, thresholds) if test else (None, None)
    return TrainedMap(
        head=heads[index],
        thresholds=thresholds,
        validation=_quality(maps[index], validation, thresholds)[0],
        test=final,
        test_f1_interval=interval,
        tried={_told(head): score for head, score in zip(heads, scores, strict=True)},
    )


def tap_sets(taps: dict[str, int], size: int) -> list[tuple[int, tuple[str, ...]]]:
    """What is tried: the photo alone; on each fine enough grid the photo and all taps no finer."""
    sides = sorted({side for name, side in taps.items() if name != PHOTO}, reverse=True)
    fine = [side for side in sides if size / side <= COARSEST_PX] or sides[:1]
    found: list[tuple[int, tuple[str, ...]]] = [(size, (PHOTO,))]
    for grid in dict.fromkeys((size, *fine)):
        names = tuple(name for name, side in taps.items() if side <= grid and name != PHOTO)
        found.append((grid, (PHOTO, *names)))
    return found


def choose_thresholds(
    maps: Sequence[np.ndarray], crops: Sequence[Crop], curve: PixelCurve
) -> MapThresholds:
    """The pair with the best F1; ``low`` around the best single threshold, ``high`` above."""
    best = int(curve.f1.argmax())
    top = (curve.f1[best], best, best)
    for low in sorted({max(0, best - step) for step in (0, 10, 20, 30)}):
        for step in (10, 20, 40, 60):
            high = min(STEPS - 1, low + step)
            found = [
                pixel_curve(hysteresis(m, THRESHOLDS[high], THRESHOLDS[low]).astype(float), c.mask)
                for m, c in zip(maps, crops, strict=True)
            ]
            top = max(top, (sum_curves(found).f1[STEPS // 2], high, low))
    return MapThresholds(float(THRESHOLDS[top[1]]), float(THRESHOLDS[top[2]]))


def binary(values: np.ndarray, thresholds: MapThresholds) -> np.ndarray:
    """``(H, W)`` bool: what of a map counts as target."""
    return hysteresis(values, thresholds.high, thresholds.low)


def photo_maps(
    photo: np.ndarray, run: Heads, *, size: int, overlap: float = OVERLAP
) -> list[np.ndarray]:
    """Maps of a whole photo, ``(H, W)`` float32 each, merged from overlapping tiles.

    Args:
        photo: ``(H, W, 3)`` uint8, at least a tile in both directions.
        run: Tiles ``(N, size, size, 3)`` to maps ``(N, h, w)``, one or several kinds.
        size: Side of a tile in px.
        overlap: Share of a tile that its neighbour covers, in [0, 1).
    """
    height, width = photo.shape[:2]
    origins = tile_origins(width, height, size, max(1, round(size * (1 - overlap))))
    # Near its border a tile does not see what is beyond: its middle counts more.
    ramp = np.minimum(np.arange(size) + 0.5, size - np.arange(size) - 0.5) / (size / 2)
    weight = np.maximum(np.outer(ramp, ramp), 0.01).astype(np.float32)
    total: list[np.ndarray] = []
    sums = np.zeros((height, width), np.float32)
    batch = max(2, min(BATCH, BATCH * 96**2 // size**2))
    for start in range(0, len(origins), batch):
        some = origins[start : start + batch]
        tiles = np.stack([photo[y : y + size, x : x + size] for x, y in some])
        kinds = [_enlarged(found, size) for found in run(tiles)]
        if not total:
            total = [np.zeros((height, width), np.float32) for _ in kinds]
        for number, (x, y) in enumerate(some):
            part = slice(y, y + size), slice(x, x + size)
            sums[part] += weight
            for merged, found in zip(total, kinds, strict=True):
                merged[part] += weight * found[number]
    return [merged / sums for merged in total]


def head_runner(backbone: Backbone, heads: Sequence[PixelHead]) -> Heads:
    """Tiles to each head's map."""
    maps = [PixelMap(head, backbone.module) for head in heads]

    def run(tiles: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            inputs = backbone.preprocessing(torch.from_numpy(tiles))
            return [found.numpy() for found in maps_at_once(maps, backbone.module, inputs)]

    return run


def padded(crop: Crop, size: int) -> Crop:
    """A crop at least a tile large, mirrored at its right and lower border; that is not counted."""
    height, width = crop.mask.shape
    more = max(0, size - height), max(0, size - width)
    if more == (0, 0):
        return crop
    edges = ((0, more[0]), (0, more[1]))
    photo = np.pad(crop.photo, (*edges, (0, 0)), mode="symmetric")
    mask = np.pad(crop.mask, edges, constant_values=255)
    return Crop(photo, mask, crop.split, crop.group, crop.key)


def _enlarged(maps: np.ndarray, size: int) -> np.ndarray:
    values = torch.from_numpy(maps)[:, None]
    return torch.nn.functional.interpolate(values, (size, size), mode="bilinear")[:, 0].numpy()


def _maps(
    backbone: Backbone, heads: Sequence[PixelHead], crops: Sequence[Crop], progress: Progress
) -> list[list[np.ndarray]]:
    """For each head, the map of each crop."""
    run, size = head_runner(backbone, heads), heads[0].size
    found = []
    for number, crop in enumerate(crops, start=1):
        height, width = crop.mask.shape
        maps = photo_maps(padded(crop, size).photo, run, size=size)
        found.append([each[:height, :width] for each in maps])
        progress("maps", number, len(crops))
    return [list(each) for each in zip(*found, strict=True)]


def _quality(
    maps: Sequence[np.ndarray], crops: Sequence[Crop], thresholds: MapThresholds
) -> tuple[PixelQuality, tuple[float, float]]:
    curves = [
        pixel_curve(binary(m, thresholds).astype(float), c.mask)
        for m, c in zip(maps, crops, strict=True)
    ]
    return quality_at(sum_curves(curves), STEPS // 2), f1_interval(curves, STEPS // 2)


def _cheapest_good(heads: Sequence[PixelHead], scores: Sequence[float]) -> int:
    good = [i for i, score in enumerate(scores) if score >= max(scores) - WORTH]
    return min(good, key=lambda i: (_cost(heads[i]), i))


def _cost(head: PixelHead) -> tuple[int, int]:
    """What is summed at the map's resolution counts most; few channels do not matter beside it."""
    return head.cells**2, len(head.taps)


def _told(head: PixelHead) -> str:
    return f"{head.map_px:g} px: {', '.join(head.taps)}"
