"""Thresholds of a ready-made model at which clean photos stay unmarked, chosen on validation.

A run's own thresholds are the best for tiles and for pixels, one by one. Whoever inspects looks at
photos: of dozens of tiles none may cry wolf. So here the tile threshold is the one with the best
balanced accuracy of *photos* (an overlapping tile that reaches it marks the photo), and the map's
are those with the best pixel F1 among all at which at most one clean validation photo in twenty
carries a region.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from check_models import Model
from pixel_maps import whole_photos
from scipy import ndimage

from finicky.data.crops import Crop
from finicky.evaluation.pixels import STEPS, pixel_curve, sum_curves
from finicky.mapping import padded
from finicky.project import Project
from finicky.sweep import SweepSettings
from finicky.sweep.inputs import gather_evidence

FALSE_ALARMS = 0.05
HIGHS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
LOWS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
AREAS_PX = (0, 20, 40, 80, 160)


def choose_limits(path: Path, project: Project, settings: SweepSettings) -> dict[str, float]:
    """``tile``, ``map_high``, ``map_low`` and ``min_area_px`` for an exported file."""
    model = Model(path)
    evidence = gather_evidence(project, settings)
    crops = [padded(crop, model.size) for crop in whole_photos(project, evidence)["validation"]]
    return {
        "tile": tile_limit(model, crops),
        **map_limits([model.map(c.photo) for c in crops], crops),
    }


def tile_limit(model: Model, crops: list[Crop]) -> float:
    """On a grid of fiftieths, the best for telling cracked photos from clean ones."""
    cracked = np.array([(crop.mask == 1).any() for crop in crops])
    most = np.array(
        [model.probabilities(model.tiles(c.photo, model.size // 2)[0]).max() for c in crops]
    )

    def score(limit: float) -> float:
        return float((most[cracked] >= limit).mean() + (most[~cracked] < limit).mean())

    grid = [k / 50 for k in range(5, 50)]
    best = max(score(limit) for limit in grid)
    return float(np.median([limit for limit in grid if score(limit) >= best - 0.01]))


def map_limits(maps: list[np.ndarray], crops: list[Crop]) -> dict[str, float]:
    """The best pixel F1 that keeps to `FALSE_ALARMS`; else the fewest false alarms."""
    found = []
    for low in LOWS:
        labelled = [Regions(m, low) for m in maps]
        for high, area in itertools.product([h for h in HIGHS if h >= low], AREAS_PX):
            marked = [each.marked(high, area) for each in labelled]
            clean = [m.any() for m, c in zip(marked, crops, strict=True) if not (c.mask == 1).any()]
            curves = [
                pixel_curve(m.astype(float), c.mask) for m, c in zip(marked, crops, strict=True)
            ]
            alarms, f1 = float(np.mean(clean)), float(sum_curves(curves).f1[STEPS // 2])
            found.append((max(alarms, FALSE_ALARMS), -f1, high, low, area, alarms))
    _, f1, high, low, area, alarms = min(found)
    print(
        f"map {high:g}/{low:g}, from {area} px on: pixel F1 {-f1:.3f} on validation, "
        f"{alarms:.1%} of clean photos marked",
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
