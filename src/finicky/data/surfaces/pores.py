"""Bug holes: the pits that air bubbles leave at the face of the concrete."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finicky.data.surfaces.draws import between, log_between
from finicky.data.surfaces.noise import Plane, Shape
from finicky.data.surfaces.style import SurfaceStyle


@dataclass(frozen=True)
class PoreLayer:
    """What pores do to a surface, every array ``(H, W)``: see `CrackLayer`."""

    inside: NDArray[np.bool_]
    light: Plane
    height: Plane


def draw_pores(rng: np.random.Generator, shape: Shape, style: SurfaceStyle) -> PoreLayer:
    """Roundish pits of many sizes, small ones by far the most; some in clusters."""
    low, high = style.pore_radius_px
    fewest, most = style.pores_per_megapixel
    rate = log_between(rng, (max(1e-3, fewest), max(1e-3, most)))
    count = int(rng.poisson(rate * shape[0] * shape[1] / 1e6))
    high = max(low, log_between(rng, (max(low, high / 4), high)))
    radii = (low**-1.2 + rng.random(count) * (high**-1.2 - low**-1.2)) ** (-1 / 1.2)
    centres = rng.uniform(0, 1, (count, 2)) * np.array([shape[1], shape[0]])
    darkness = between(rng, (0.45, 0.85))
    layer = PoreLayer(
        inside=np.zeros(shape, dtype=bool),
        light=np.ones(shape, dtype=np.float32),
        height=np.zeros(shape, dtype=np.float32),
    )
    for centre, radius in zip(centres, radii, strict=True):
        _dig(rng, layer, centre, float(radius), darkness * between(rng, (0.35, 1.1)))
    return layer


def _dig(
    rng: np.random.Generator,
    layer: PoreLayer,
    centre: NDArray[np.float64],
    radius: float,
    darkness: float,
) -> None:
    """One pit: an ellipse with an uneven rim, dark within, a bowl for the light to fall into."""
    reach = int(np.ceil(1.9 * radius)) + 2
    rows, columns = layer.inside.shape
    left, top = int(centre[0]) - reach, int(centre[1]) - reach
    window = (
        slice(max(0, top), min(rows, top + 2 * reach + 1)),
        slice(max(0, left), min(columns, left + 2 * reach + 1)),
    )
    x = np.arange(window[1].start, window[1].stop, dtype=np.float32) + 0.5 - centre[0]
    y = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None] + 0.5 - centre[1]
    distance, rim = _outline(rng, x, y, radius)
    edge = rim - distance
    cover = np.clip(edge + 0.5, 0, 1)
    bowl = np.clip(1 - (distance / rim) ** 2, 0, 1)
    shade = min(1.0, darkness) * cover * (0.5 + 0.5 * np.sqrt(bowl))
    layer.light[window] = np.minimum(layer.light[window], 1 - shade)
    layer.height[window] = np.minimum(
        layer.height[window], -0.6 * radius * min(1.0, darkness + 0.2) * bowl
    )
    layer.inside[window] |= cover >= 0.5


def _outline(rng: np.random.Generator, x: Plane, y: Plane, radius: float) -> tuple[Plane, Plane]:
    """Distance of each pixel from the centre, and the rim in its direction, both in px."""
    turn, longer = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(1, 2.0))
    u = (x * np.cos(turn) + y * np.sin(turn)) / longer
    v = (y * np.cos(turn) - x * np.sin(turn)) * longer
    distance = np.hypot(u, v).astype(np.float32)
    angle = np.arctan2(v, u)
    rim = np.full(distance.shape, radius, dtype=np.float32)
    for waves in (2, 3, 5):
        share = rng.uniform(0, 0.24 / waves**0.5)
        rim *= (1 + share * np.sin(waves * angle + rng.uniform(0, 2 * np.pi))).astype(np.float32)
    return distance, np.maximum(rim, 0.75)
