"""Bare concrete: colour, clouds, sand and relief."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from finicky.data.surfaces.draws import between, chance, log_between
from finicky.data.surfaces.noise import Plane, Shape, cells, per_cell, power_law, smoothstep
from finicky.data.surfaces.style import SurfaceStyle

_TABLE = 8191  # prime, so that cell numbers do not fall into step with the rows

# Linear reflectance relative to its mean: cool and warm grey, beige, greenish, bluish.
_TINTS = np.array(
    [
        [1.00, 1.00, 1.00],
        [1.02, 1.00, 0.97],
        [1.06, 1.00, 0.91],
        [1.10, 1.00, 0.86],
        [0.98, 1.00, 0.95],
        [0.96, 1.00, 1.05],
    ],
    dtype=np.float32,
)


@dataclass(frozen=True)
class Ground:
    """A surface seen in even light: ``color`` ``(H, W, 3)`` linear, ``height`` ``(H, W)`` in px."""

    color: NDArray[np.float32]
    height: Plane


def bare_concrete(rng: np.random.Generator, shape: Shape, style: SurfaceStyle) -> Ground:
    """Concrete without anything on it or in it; mean reflectance about 1."""
    grain = between(rng, style.grain_contrast)
    coarse = power_law(rng, shape, slope=2.6, corner_px=between(rng, (25, 70)))
    tone = _clouds(rng, shape, coarse)
    uneven = np.exp(0.35 * power_law(rng, shape, slope=3.0, corner_px=120))
    sand, bumps = _sand(rng, shape)
    tone += grain * uneven * sand
    color = np.exp(tone)[..., None] * _tint(rng, shape, coarse)
    height = _relief(rng, shape, coarse) + uneven * bumps * (0.8 + 9.0 * grain)
    return Ground(color=color, height=height.astype(np.float32))


def _clouds(rng: np.random.Generator, shape: Shape, coarse: Plane) -> Plane:
    """Uneven tone: broad mottling, and patches with a frayed edge (laitance, damp, wear)."""
    tone = between(rng, (0.02, 0.09)) * power_law(rng, shape, slope=2.8, corner_px=250)
    tone += between(rng, (0.005, 0.03)) * coarse
    frayed = coarse + 0.8 * power_law(rng, shape, slope=2.0, corner_px=30)
    edge = between(rng, (-0.6, 1.8))
    patches = smoothstep(frayed, edge, edge + between(rng, (0.3, 1.5)))
    return tone + between(rng, (-0.14, 0.14)) * patches


def _sand(rng: np.random.Generator, shape: Shape) -> tuple[Plane, Plane]:
    """Grains of sand: their tone (std about 1, heavy tails as on real photos) and their relief."""
    fine = power_law(rng, shape, slope=between(rng, (0.6, 2.2)), corner_px=14)
    numbers = cells(rng, shape, size_px=between(rng, (1.8, 3.6)))
    speckle = per_cell(numbers, rng.standard_t(4, _TABLE).astype(np.float32))
    speckle = ndimage.gaussian_filter(speckle, between(rng, (0.4, 0.7)))
    share = between(rng, (0.2, 0.8))
    lift = per_cell(numbers, np.abs(rng.standard_normal(_TABLE)).astype(np.float32))
    bumps = 0.13 * ndimage.gaussian_filter(lift, 0.6)
    bumps += 0.05 * power_law(rng, shape, slope=2.2, corner_px=12)
    return (1 - share) * fine + share * speckle, bumps


def _relief(rng: np.random.Generator, shape: Shape, coarse: Plane) -> Plane:
    """Unevenness of the cast face in px, now and then with the strokes of a broom or trowel."""
    height = 0.5 * coarse
    if chance(rng, 0.1):
        turned = chance(rng, 0.5)
        strokes = power_law(
            rng,
            shape[::-1] if turned else shape,
            slope=1.8,
            corner_px=12,
            stretch=log_between(rng, (6, 30)),
        )
        height = height + between(rng, (0.1, 0.35)) * (strokes.T if turned else strokes)
    return height


def _tint(rng: np.random.Generator, shape: Shape, coarse: Plane) -> NDArray[np.float32]:
    """The colour of the cement and how it wanders between warm and cool: ``(H, W, 3)``."""
    first, second = _TINTS[rng.integers(0, len(_TINTS), 2)]
    base = first + between(rng, (0, 1)) * (second - first)
    warm = between(rng, (0.004, 0.02)) * power_law(rng, shape, slope=2.4, corner_px=150)
    warm += between(rng, (-0.008, 0.008)) * coarse
    tint = np.empty((*shape, 3), dtype=np.float32)
    for channel, sign in enumerate((1.0, 0.0, -1.0)):
        tint[..., channel] = base[channel] * (1 + sign * warm)
    return tint
