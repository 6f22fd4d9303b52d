"""Cracks drawn from their paths: which pixels they cover and how deep they look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finicky.data.surfaces.draws import between
from finicky.data.surfaces.noise import Plane, Shape, power_law
from finicky.data.surfaces.paths import CrackPath
from finicky.data.surfaces.style import SurfaceStyle

# Narrower than this a crack darkens its pixels by less than the grain does: nobody can mark it.
_VISIBLE_WIDTH_PX = 0.7
_BATCH = 1_000_000  # pixels touched at a time: bounds the memory on long cracks


@dataclass(frozen=True)
class CrackLayer:
    """What cracks do to a surface, every array ``(H, W)``.

    Attributes:
        inside: True where the mask says crack.
        light: Share of the light that comes back, 1 beside the cracks.
        height: Change of height in px, negative within.
    """

    inside: NDArray[np.bool_]
    light: Plane
    height: Plane


def draw_cracks(
    rng: np.random.Generator, shape: Shape, paths: list[CrackPath], style: SurfaceStyle
) -> CrackLayer:
    """Draw ``paths`` with sub-pixel edges.

    A pixel belongs to the crack when at least half of it is covered. A crack thinner than a pixel
    may cover no pixel by half; the pixels its centre line crosses belong to it all the same, as
    long as it is wide enough to be seen.
    """
    depth, half_width, line = _rasterise(shape, paths)
    ragged = power_law(rng, shape, slope=3.0, corner_px=10)
    edge = depth + ragged * np.minimum(0.16 * half_width, 1.0)
    cover = np.clip(edge + 0.5, 0, np.minimum(1, 2 * half_width))
    inside = (cover >= 0.5) | line
    # Little light gets into a narrow gap and none out of a wide one; dust fills the shallow parts.
    deep = np.clip(half_width / 2.5, 0, 1)
    filled = 1 - 0.12 * np.clip(power_law(rng, shape, slope=2.2, corner_px=40) + 0.5, 0, 2)
    darkness = between(rng, style.crack_darkness)
    swallow = (0.85 * darkness + deep * (0.4 - 0.25 * darkness)) * filled
    core = 0.65 + 0.35 * np.clip(edge / np.maximum(0.5 * half_width, 0.5), 0, 1)
    light = 1 - cover * swallow * core
    # The gap, and lips broken off a little beyond it: these catch the light on one side.
    lips = np.clip(edge / 2 + 1.2, 0, 1) * np.minimum(half_width, 1.5)
    height = -0.55 * lips - 0.6 * cover * np.minimum(half_width, 2.0)
    return CrackLayer(inside, light.astype(np.float32), height.astype(np.float32))


def _rasterise(shape: Shape, paths: list[CrackPath]) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """Depth inside the crack (px, negative outside), half its width nearby, its centre line."""
    depth = np.full(shape, -9.0, dtype=np.float32)
    half_width = np.zeros(shape, dtype=np.float32)
    line = np.zeros(shape, dtype=bool)
    for path in paths:
        seen = path.width_px >= _VISIBLE_WIDTH_PX
        points, half = path.points[seen], path.width_px[seen] / 2
        column, row = np.floor(points).astype(np.int64).T
        within = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
        line[row[within], column[within]] = True
        reach = np.ceil(half + 3.5).astype(np.int64)
        for radius in np.unique(reach):
            of_size = reach == radius
            _stamp(depth, half_width, points[of_size], half[of_size], int(radius))
    return depth, half_width, line


def _stamp(
    depth: Plane, half_width: Plane, points: NDArray[np.float64], half: Plane, radius: int
) -> None:
    """Discs of radius ``half`` at ``points``, merged into the two planes by their maximum."""
    window = np.arange(-radius, radius + 1)
    batch = 1 + _BATCH // window.size**2
    for first in range(0, len(points), batch):
        x, y = points[first : first + batch].T[..., None, None]
        size = half[first : first + batch, None, None]
        column = np.floor(x).astype(np.int64) + window
        row = np.floor(y).astype(np.int64) + window[:, None]
        inside = size - np.hypot(column + 0.5 - x, row + 0.5 - y)
        kept = (column >= 0) & (column < depth.shape[1]) & (row >= 0) & (row < depth.shape[0])
        place = (row * depth.shape[1] + column)[kept]
        near = np.broadcast_to(size, inside.shape)[kept]
        np.maximum.at(depth.reshape(-1), place, inside[kept].astype(np.float32))
        np.maximum.at(half_width.reshape(-1), place, near.astype(np.float32))
