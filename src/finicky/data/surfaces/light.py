"""The light on a surface: its direction, its fall-off, a shadow's edge."""

from __future__ import annotations

import numpy as np

from finicky.data.surfaces.draws import between, chance, log_between
from finicky.data.surfaces.noise import Plane, Shape, power_law, smoothstep
from finicky.data.surfaces.style import SurfaceStyle


def shading(rng: np.random.Generator, face: Plane, pits: Plane, style: SurfaceStyle) -> Plane:
    """Lambert's shading by one light from the side, ``(H, W)``, 1 where the surface is flat.

    Args:
        rng: Source of the light's direction and strength.
        face: ``(H, W)`` height of the face of the concrete in px.
        pits: ``(H, W)`` height of pores and cracks in px. These are steep: they show a lit and a
            dark side even under light that leaves the grain of the face flat.
        style: Range of the strength.
    """
    relief = log_between(rng, style.relief)
    height = np.float32(relief) * face + np.float32(max(relief, 0.5)) * pits
    azimuth = rng.uniform(0, 2 * np.pi)
    rise = np.zeros_like(height)
    rise[:, 1:] += np.float32(np.cos(azimuth)) * (height[:, 1:] - height[:, :-1])
    rise[1:] += np.float32(np.sin(azimuth)) * (height[1:] - height[:-1])
    shade = 1 - rise
    # Soft limits: nothing is blacker than the sky's light leaves it, nor brighter than face-on.
    return np.where(shade < 1, 0.3 + 0.7 * np.exp((shade - 1) / 0.7), 2 - np.exp(1 - shade)).astype(
        np.float32
    )


def illumination(rng: np.random.Generator, shape: Shape, style: SurfaceStyle) -> Plane:
    """How much light falls on each pixel, ``(H, W)``, about 1: gradient, corners, cast shadow."""
    x = (np.arange(shape[1], dtype=np.float32) + 0.5) / shape[1] - 0.5
    y = ((np.arange(shape[0], dtype=np.float32) + 0.5) / shape[0] - 0.5)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    slope = between(rng, style.light_gradient)
    light = 1 + np.float32(slope) * (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y)
    light *= 1 - np.float32(2 * between(rng, style.vignetting)) * (x * x + y * y)
    if chance(rng, style.shadow_probability):
        light *= _cast_shadow(rng, x, y, shape)
    return light


def _cast_shadow(rng: np.random.Generator, x: Plane, y: Plane, shape: Shape) -> Plane:
    """Part of the photo in the shadow of something out of sight; its edge is soft."""
    angle = rng.uniform(0, 2 * np.pi)
    away = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)) - between(rng, (-0.2, 0.4))
    soft = log_between(rng, (0.02, 0.15))
    if chance(rng, 0.5):  # leaves rather than a wall: further away, so softer
        away = away + 0.07 * power_law(rng, shape, slope=3.6, corner_px=0.3 * min(shape))
        soft = max(soft, 0.06)
    return 1 - between(rng, (0.25, 0.55)) * smoothstep(away, -soft, soft)
