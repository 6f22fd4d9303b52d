"""Stones of the aggregate that show at the surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from finicky.data.surfaces.draws import between, chance, log_between
from finicky.data.surfaces.noise import Plane, Shape, power_law
from finicky.data.surfaces.style import SurfaceStyle
from finicky.data.surfaces.texture import Ground

_BATCH = 50_000  # stones drawn at a time: bounds the memory on large photos


def with_stones(rng: np.random.Generator, ground: Ground, style: SurfaceStyle) -> Ground:
    """The same ground with stones showing, if this surface has any."""
    if not chance(rng, style.aggregate_probability):
        return ground
    shape = ground.height.shape
    share = log_between(rng, style.aggregate_share)
    radii = _radii(rng, shape, share, style)
    numbers = _draw(rng, shape, radii)
    spread = between(rng, style.aggregate_contrast) * (1 + 0.6 * min(1.0, share))
    tones = _tones(rng, len(radii), spread=spread)
    inside = (numbers > 0).astype(np.float32)
    cover = ndimage.gaussian_filter(inside, 0.45)[..., None] * between(rng, (0.5, 1.0))
    own = ndimage.gaussian_filter(tones[numbers], (0.4, 0.4, 0)) * _veins(rng, shape)[..., None]
    worn = 1 - between(rng, (0.15, 0.65)) * min(1.0, share)  # shade between closely set stones
    color = ground.color * worn * (1 - cover) + own * cover
    lift = between(rng, (-0.5, 1.2)) * ndimage.gaussian_filter(inside, between(rng, (0.8, 1.6)))
    height = ground.height * (1 - 0.5 * cover[..., 0]) + lift
    return Ground(color=color.astype(np.float32), height=height.astype(np.float32))


def _radii(
    rng: np.random.Generator, shape: Shape, share: float, style: SurfaceStyle
) -> NDArray[np.float64]:
    """Radii in px, largest first, together ``share`` of the plane; small ones prevail."""
    low, high = style.aggregate_radius_px
    high = max(low, log_between(rng, (max(low, 0.4 * high), high)))
    mean_area = 0.75 * np.pi * low * high  # of a density that falls as radius ** -2
    count = int(share * shape[0] * shape[1] / max(mean_area, 1.0))
    along = rng.random(max(count, 1))
    return np.sort(1 / (1 / low + along * (1 / high - 1 / low)))[::-1]


def _draw(rng: np.random.Generator, shape: Shape, radii: NDArray[np.float64]) -> NDArray[np.int32]:
    """``(H, W)`` number of the stone on top, from 1; 0 between them."""
    canvas = Image.new("I", (shape[1], shape[0]))
    brush = ImageDraw.Draw(canvas)
    for first in range(0, len(radii), _BATCH):
        outlines = _outlines(rng, shape, radii[first : first + _BATCH])
        for number, outline in enumerate(outlines, start=first + 1):
            brush.polygon(outline, fill=number)
    return np.asarray(canvas, dtype=np.int32)


def _outlines(
    rng: np.random.Generator, shape: Shape, radii: NDArray[np.float64]
) -> list[list[float]]:
    """Crushed stone, one flat list of x, y, x, y, ... in px each."""
    count, corners = len(radii), 8
    angles = (np.arange(corners) + rng.uniform(-0.4, 0.4, (count, corners))) * (2 * np.pi / corners)
    reach = radii[:, None] * rng.uniform(0.65, 1.2, (count, corners))
    turn, flat = rng.uniform(0, np.pi, (count, 1)), rng.uniform(0.5, 1.0, (count, 1))
    along, across = reach * np.cos(angles), reach * np.sin(angles) * flat
    x = rng.uniform(0, shape[1], (count, 1)) + along * np.cos(turn) - across * np.sin(turn)
    y = rng.uniform(0, shape[0], (count, 1)) + along * np.sin(turn) + across * np.cos(turn)
    return np.stack([x, y], axis=-1).reshape(count, -1).tolist()


def _tones(rng: np.random.Generator, count: int, *, spread: float) -> NDArray[np.float32]:
    """Linear colour of each stone: ``(count + 1, 3)``; a few are very light or very dark."""
    tone = np.exp(between(rng, (-0.35, 0.2)) + spread * rng.standard_normal((count + 1, 1)))
    hue = between(rng, (0.01, 0.05)) * rng.standard_normal((count + 1, 1))
    colors = tone * (1 + hue * np.array([1.0, 0.0, -1.0]))
    return np.clip(colors, 0.12, 2.2).astype(np.float32)


def _veins(rng: np.random.Generator, shape: Shape) -> Plane:
    return (1 + 0.06 * power_law(rng, shape, slope=1.5, corner_px=8)).astype(np.float32)
