"""How well a map of probabilities follows a mask: F1 with a tolerance, and IoU, per threshold.

Hands draw a crack a pixel or two beside where it is, so a marked pixel counts as found, and a found
one as right, where the other lies within the tolerance (2 px in the crack literature, as in Shi et
al., "Automatic road crack detection using random structured forests", 2016). IoU knows no
tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from finicky.masks import IGNORE

TOLERANCE_PX = 2
STEPS = 200
THRESHOLDS = (np.arange(STEPS) + 0.5) / STEPS


@dataclass(frozen=True)
class PixelCurve:
    """Pixels counted at every one of `THRESHOLDS`; curves add up over photos.

    Attributes:
        found: ``(T,)`` pixels at or above the threshold.
        right: Those of them within the tolerance of a marked pixel.
        both: Those of them that are marked.
        met: Marked pixels within the tolerance of a found one.
        marked: Marked pixels, one number.
    """

    found: np.ndarray
    right: np.ndarray
    both: np.ndarray
    met: np.ndarray
    marked: int

    def __add__(self, other: PixelCurve) -> PixelCurve:
        return PixelCurve(
            self.found + other.found,
            self.right + other.right,
            self.both + other.both,
            self.met + other.met,
            self.marked + other.marked,
        )

    @property
    def precision(self) -> np.ndarray:
        """``(T,)``; 0 where nothing is found."""
        return self.right / np.maximum(self.found, 1)

    @property
    def recall(self) -> np.ndarray:
        """``(T,)``; 0 where nothing is marked."""
        return self.met / max(self.marked, 1)

    @property
    def f1(self) -> np.ndarray:
        """``(T,)`` harmonic mean of precision and recall, both with the tolerance."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / np.where(total == 0, 1, total)

    @property
    def iou(self) -> np.ndarray:
        """``(T,)`` without tolerance."""
        return self.both / np.maximum(self.found + self.marked - self.both, 1)


@dataclass(frozen=True)
class PixelQuality:
    """At one setting of the thresholds: all in [0, 1]."""

    precision: float
    recall: float
    f1: float
    iou: float


def pixel_curve(values: np.ndarray, mask: np.ndarray) -> PixelCurve:
    """Compare one map with one mask.

    Args:
        values: ``(H, W)`` float in [0, 1].
        mask: ``(H, W)`` uint8: 1 target, 0 not, 255 not to be counted.
    """
    marked, counted = mask == 1, mask != IGNORE
    near = _largest_near(marked)
    # How many thresholds it reaches; 8 bits hold them.
    level = np.clip(values * STEPS + 0.5, 0, STEPS).astype(np.uint8)
    reached = _largest_near(level)
    return PixelCurve(
        found=_at_least(level[counted]),
        right=_at_least(level[near & counted]),
        both=_at_least(level[marked]),
        met=_at_least(reached[marked]),
        marked=int(marked.sum()),
    )


def pixel_quality(found: list[np.ndarray], masks: list[np.ndarray]) -> PixelQuality:
    """Of binary maps, all pixels of all photos taken together."""
    total = sum_curves([pixel_curve(f.astype(float), m) for f, m in zip(found, masks, strict=True)])
    return quality_at(total, STEPS // 2)


def quality_at(curve: PixelCurve, index: int) -> PixelQuality:
    """At the threshold of that index."""
    values = (curve.precision, curve.recall, curve.f1, curve.iou)
    return PixelQuality(*(float(v[index]) for v in values))


def sum_curves(curves: list[PixelCurve]) -> PixelCurve:
    """All photos taken together."""
    return sum(curves[1:], curves[0])


def f1_interval(curves: list[PixelCurve], index: int, *, seed: int = 0) -> tuple[float, float]:
    """95 % interval of F1 at one threshold: 1000 draws of the photos with replacement."""
    rows = np.array(
        [(c.found[index], c.right[index], c.met[index], c.marked) for c in curves], dtype=float
    )
    random = np.random.default_rng(seed)
    drawn = rows[random.integers(0, len(rows), (1000, len(rows)))].sum(1)
    precision = drawn[:, 1] / np.maximum(drawn[:, 0], 1)
    recall = drawn[:, 2] / np.maximum(drawn[:, 3], 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    low, high = np.percentile(f1, (2.5, 97.5))
    return float(low), float(high)


def hysteresis(values: np.ndarray, high: float, low: float) -> np.ndarray:
    """``(H, W)`` bool: 8-connected regions at or above ``low`` that reach ``high`` somewhere."""
    from scipy.ndimage import label

    regions, count = label(values >= low, structure=np.ones((3, 3)))
    if not count:
        return np.zeros(values.shape, dtype=bool)
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(regions[values >= high])] = True
    kept[0] = False
    return kept[regions]


def _at_least(levels: np.ndarray) -> np.ndarray:
    """How many of the pixels reach each threshold."""
    counts = np.bincount(levels, minlength=STEPS + 1)
    return counts[::-1].cumsum()[::-1][1:]


def _largest_near(values: np.ndarray) -> np.ndarray:
    """For each pixel the largest value within the tolerance; ten times as fast as a filter."""
    height, width = values.shape
    padded = np.zeros((height + 2 * TOLERANCE_PX, width + 2 * TOLERANCE_PX), values.dtype)
    inner = slice(TOLERANCE_PX, TOLERANCE_PX + height), slice(TOLERANCE_PX, TOLERANCE_PX + width)
    padded[inner] = values
    found = values.copy()
    for y, x in np.argwhere(_disk(TOLERANCE_PX)):
        np.maximum(found, padded[y : y + height, x : x + width], out=found)
    return found


@cache
def _disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return y**2 + x**2 <= radius**2
