"""Thresholds of a ready-made model, chosen on validation: clean concrete stays unmarked.

A run's own thresholds are the best for tiles and for pixels, one by one. Whoever inspects looks at
photos: of dozens of tiles none may cry wolf. So the map's are those with the best pixel F1, over
all validation photos, at which at most one of METU's clean validation images in twenty is marked;
what keeps these unmarked is above all the least area of a region. A tile's is the one with the best
balanced accuracy of tiles at which none of the 16 overlapping tiles of nine such images in ten
reaches it. Some of these images show a hairline. Clean generated asphalt is not part of the limits:
hardly any thresholds leave the roughest of it unmarked and still find a crack elsewhere.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from check_models import Model
from scipy import ndimage

from finicky.data.crops import Crop
from finicky.evaluation.pixels import STEPS, pixel_curve, sum_curves
from finicky.flatness import flatten_probability
from finicky.mapping import padded
from finicky.training.tuning import MarkedTiles

FALSE_ALARMS, TILE_ALARMS = 0.05, 0.1
HIGHS = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
LOWS = (0.2, 0.3, 0.5, 0.7)
AREAS_PX = (0, 120, 250, 400)


def choose_limits(
    path: Path,
    clean: list[Crop],
    photos: list[Crop],
    tiles: MarkedTiles,
    *,
    flattened: float = 1.0,
) -> dict[str, float]:
    """``tile``, ``map_high``, ``map_low`` and ``min_area_px`` for an exported file.

    Args:
        path: Of the file.
        clean: Photos that should stay unmarked.
        photos: Photos with masks to be followed.
        tiles: To be told apart.
        flattened: By how much the map's logits were made smaller for export.
    """
    model = Model(path)
    clean, photos = ([padded(c, model.size) for c in some] for some in (clean, photos))
    limits = {"tile": tile_limit(model, clean, tiles)}
    return limits | map_limits(
        [model.map(c.photo) for c in clean],
        [model.map(c.photo) for c in photos],
        photos,
        flattened,
    )


def tile_limit(model: Model, clean: list[Crop], tiles: MarkedTiles) -> float:
    """On a grid of fiftieths, the best for tiles that keeps to `TILE_ALARMS`."""
    alarms = np.array(
        [model.probabilities(model.tiles(c.photo, model.size // 2)[0]).max() for c in clean]
    )
    found, positive = model.probabilities(tiles.tiles), tiles.labels == 1

    def score(limit: float) -> tuple[float, float]:
        right = (found[positive] >= limit).mean() + (found[~positive] < limit).mean()
        return -max(TILE_ALARMS, float((alarms >= limit).mean())), float(right)

    return max((k / 50 for k in range(10, 50)), key=score)


def map_limits(
    clean: list[np.ndarray], maps: list[np.ndarray], photos: list[Crop], flattened: float
) -> dict[str, float]:
    """The best pixel F1 that keeps to `FALSE_ALARMS`; else the fewest false alarms."""
    found = []
    lows, highs = ([flatten_probability(v, flattened) for v in some] for some in (LOWS, HIGHS))
    for low in lows:
        empty, others = ([Regions(m, low) for m in some] for some in (clean, maps))
        for high, area in itertools.product([h for h in highs if h >= low], AREAS_PX):
            alarms = float(np.mean([each.marked(high, area).any() for each in empty]))
            curves = [
                pixel_curve(each.marked(high, area).astype(float), crop.mask)
                for each, crop in zip(others, photos, strict=True)
            ]
            f1 = float(sum_curves(curves).f1[STEPS // 2])
            found.append((max(alarms, FALSE_ALARMS), -f1, high, low, area, alarms))
    _, f1, high, low, area, alarms = min(found)
    print(
        f"map {high:g}/{low:g}, from {area} px on: pixel F1 {-f1:.3f} on validation, "
        f"{alarms:.1%} of clean concrete marked",
        flush=True,
    )
    return {"map_high": high, "map_low": low, "min_area_px": area}


class Regions:
    """8-connected regions of a map at or above ``low``, each with its peak and area."""

    def __init__(self, values: np.ndarray, low: float) -> None:
        self.labels, count = ndimage.label(values >= low, np.ones((3, 3)))
        numbers = np.arange(1, count + 1)
        self.peak = np.asarray(ndimage.maximum(values, self.labels, numbers)) if count else numbers
        self.area = np.bincount(self.labels.reshape(-1), minlength=count + 1)[1:]

    def marked(self, high: float, area: int) -> np.ndarray:
        """``(H, W)`` bool."""
        return np.concatenate([[False], (self.peak >= high) & (self.area >= area)])[self.labels]
