"""From light to levels: lens blur, exposure, colour cast, noise, sharpening, 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from finicky.data.surfaces.draws import between, chance
from finicky.data.surfaces.style import SurfaceStyle


def expose(
    rng: np.random.Generator,
    radiance: NDArray[np.floating[Any]],
    style: SurfaceStyle,
    *,
    reference: float,
) -> NDArray[np.uint8]:
    """The photo of ``radiance``: ``(H, W, 3)`` linear to ``(H, W, 3)`` uint8 sRGB.

    What has the radiance ``reference`` comes out at a grey drawn from ``style.brightness``. It is
    given rather than measured, so that a crack does not change the exposure of the whole photo.
    """
    blur = _blur(rng, style)
    cast = 1 + style.white_balance * np.clip(rng.normal(0, 0.5, 3), -1, 1)
    grey = between(rng, style.brightness)
    gain = grey**2.2 / reference
    sharpening, noise = between(rng, style.sharpening), between(rng, style.noise_levels) / 255
    grain = _sensor_noise(rng, radiance.shape[:2])
    photo = np.empty(radiance.shape, dtype=np.uint8)
    for channel in range(3):
        plane = ndimage.gaussian_filter(radiance[..., channel], blur, truncate=3.0)
        plane *= np.float32(gain * (cast[channel] if channel != 1 else 1.0))
        plane = np.maximum(plane, 0) ** np.float32(1 / 2.2)
        # Shot noise is even after the root; a little more of it in red and blue.
        plane += np.float32(noise) * (grain[0] + np.float32(0.35) * grain[1 + channel])
        if sharpening:
            plane += np.float32(sharpening) * (plane - ndimage.gaussian_filter(plane, 1.2))
        photo[..., channel] = np.clip(_tone_curve(plane) * 255 + 0.5, 0, 255).astype(np.uint8)
    return photo


def _blur(rng: np.random.Generator, style: SurfaceStyle) -> tuple[float, float]:
    """Standard deviations down and across; now and then the camera moved."""
    low, high = style.blur_px
    blur = between(rng, (low, high))
    if chance(rng, 0.08):
        return (blur, blur + high) if chance(rng, 0.5) else (blur + high, blur)
    return blur, blur


def _sensor_noise(rng: np.random.Generator, shape: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Common noise and one of each colour; the colours' is coarser, as after demosaicing."""
    common = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 0.35)
    own = [
        1.6 * ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 0.8)
        for _ in range(3)
    ]
    return [common, *own]


def _tone_curve(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Highlights roll off instead of burning out."""
    knee = np.float32(0.85)
    return np.where(plane < knee, plane, knee + 0.15 * np.tanh((plane - knee) / np.float32(0.15)))
