"""What lies on the concrete: smudges, splatter, lichen, and runs of water, rust and lime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finicky.data.surfaces.draws import between, chance, log_between
from finicky.data.surfaces.noise import Plane, line_noise, power_law, smoothstep
from finicky.data.surfaces.style import SurfaceStyle
from finicky.data.surfaces.texture import Ground

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Patch:
    """A window of the photo: slices, and the offset in px of its pixels from ``centre``."""

    rows: slice
    columns: slice
    x: Plane  # (1, W)
    y: Plane  # (H, 1)
    noise: Plane  # (H, W) rough, std 1
    fine: Plane  # (H, W) finer, std 1


@dataclass(frozen=True)
class Deposit:
    """One stain on its patch: ``cover`` in [0, 1] (the mask is where it is at least 0.5)."""

    cover: Plane
    color: Color  # linear reflectance, 1 = as the concrete
    opacity: Plane | float  # share of the concrete's own colour that is hidden
    stains: bool  # True: tints what is below; False: lies on top of it


Maker = Callable[[np.random.Generator, Patch, float], Deposit]


def with_dirt(
    rng: np.random.Generator, ground: Ground, style: SurfaceStyle
) -> tuple[Ground, NDArray[np.bool_]]:
    """The ground with deposits on it, and ``(H, W)`` where these cover at least half a pixel."""
    shape = ground.height.shape
    count = int(rng.poisson(between(rng, style.deposits_per_megapixel) * shape[0] * shape[1] / 1e6))
    inside = np.zeros(shape, dtype=bool)
    if count == 0:
        return ground, inside
    color, height = ground.color.copy(), ground.height.copy()
    rough = power_law(rng, shape, slope=3.4, corner_px=45)
    fine = power_law(rng, shape, slope=1.4, corner_px=6)
    makers: list[Maker] = [_smudge, _splatter, _lichen, _run]
    for _ in range(count):
        make = makers[int(rng.choice(4, p=[0.36, 0.24, 0.16, 0.24]))]
        radius = log_between(rng, style.deposit_radius_px)
        patch = _patch(rng, shape, radius, rough, fine, long=make is _run)
        deposit = make(rng, patch, radius)
        inside[patch.rows, patch.columns] |= deposit.cover >= 0.5
        _lay(color[patch.rows, patch.columns], deposit)
        if not deposit.stains:
            height[patch.rows, patch.columns] += 0.4 * deposit.cover * (1 + 0.4 * patch.fine)
    return Ground(color=color, height=height), inside


def _patch(
    rng: np.random.Generator,
    shape: tuple[int, int],
    radius: float,
    rough: Plane,
    fine: Plane,
    *,
    long: bool,
) -> Patch:
    """A window around a random centre, wide enough for the deposit; for a run it reaches down."""
    centre = (
        rng.uniform(0, shape[1]),
        rng.uniform(*((-0.3, 0.4) if long else (0.0, 1.0))) * shape[0],
    )
    reach, down = int(2.2 * radius) + 3, int((11 if long else 2.2) * radius) + 3
    left, top = int(centre[0]) - reach, int(centre[1]) - reach
    columns = slice(max(0, left), max(1, min(shape[1], left + 2 * reach)))
    rows = slice(max(0, top), max(1, min(shape[0], int(centre[1]) + down)))
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] + 0.5 - centre[0]
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5 - centre[1]
    return Patch(rows, columns, x, y, rough[rows, columns], fine[rows, columns])


def _lay(color: NDArray[np.float32], deposit: Deposit) -> None:
    hidden = (deposit.cover * deposit.opacity)[..., None].astype(np.float32)
    own = np.array(deposit.color, dtype=np.float32)
    if deposit.stains:
        color *= 1 + hidden * (own - 1)
    else:
        color += hidden * (own - color)


def _smudge(rng: np.random.Generator, patch: Patch, radius: float) -> Deposit:
    """Grease, soot or mud rubbed in: a ragged spot, soft or sharp at its edge."""
    turn, longer = rng.uniform(0, np.pi), rng.uniform(1.0, 2.2)
    u = (patch.x * np.cos(turn) + patch.y * np.sin(turn)) / longer
    v = patch.y * np.cos(turn) - patch.x * np.sin(turn)
    form = 1 - np.hypot(u, v) / (0.75 * radius)
    form = form + between(rng, (0.15, 0.4)) * patch.noise + between(rng, (0, 0.08)) * patch.fine
    soft = log_between(rng, (0.15, 1.0))
    cover = smoothstep(form, -soft / 2, soft / 2)
    colors: list[Color] = [(0.1, 0.09, 0.08), (0.3, 0.22, 0.14), (0.15, 0.15, 0.17)]
    color = colors[int(rng.integers(len(colors)))]
    worn = np.clip(1 + 0.25 * patch.fine, 0.3, 1.3)
    return Deposit(cover, color, between(rng, (0.25, 0.75)) * worn, stains=True)


def _splatter(rng: np.random.Generator, patch: Patch, radius: float) -> Deposit:
    """Drops of mud, paint or mortar around one point, smaller and rarer further out."""
    cover = np.zeros(np.broadcast_shapes(patch.x.shape, patch.y.shape), dtype=np.float32)
    for _ in range(int(rng.integers(8, 45))):
        away, angle = radius * rng.rayleigh(0.55), rng.uniform(0, 2 * np.pi)
        size = max(0.9, rng.pareto(2.2) * 0.05 * radius + 0.7)
        size = min(size, 0.35 * radius)
        dx = patch.x - np.float32(away * np.cos(angle))
        dy = patch.y - np.float32(away * np.sin(angle))
        distance = np.hypot(dx, dy * np.float32(rng.uniform(0.7, 1.4)))
        drop = size - distance + 0.25 * min(size, 4.0) * patch.fine
        np.maximum(cover, np.clip(drop + 0.5, 0, 1), out=cover)
    colors: list[Color] = [(0.12, 0.1, 0.09), (0.35, 0.27, 0.18), (1.7, 1.7, 1.65)]
    color = colors[int(rng.integers(len(colors)))]
    return Deposit(cover, color, between(rng, (0.45, 0.95)), stains=False)


def _lichen(rng: np.random.Generator, patch: Patch, radius: float) -> Deposit:
    """Crusts of lichen, moss or algae: rounded lobes, grainy, in a colour of their own."""
    form = 1 - np.hypot(patch.x, patch.y) / (0.8 * radius) + 0.45 * patch.noise + 0.3 * patch.fine
    cover = smoothstep(form, -0.05, 0.15)
    colors: list[Color] = [
        (0.9, 0.75, 0.25),
        (0.45, 0.5, 0.35),
        (1.35, 1.4, 1.3),
        (0.16, 0.17, 0.14),
        (0.35, 0.42, 0.2),
    ]
    color = colors[int(rng.integers(len(colors)))]
    crust = np.clip(0.75 + 0.25 * patch.fine, 0.2, 1)
    return Deposit(cover, color, between(rng, (0.45, 0.9)) * crust, stains=False)


def _run(rng: np.random.Generator, patch: Patch, radius: float) -> Deposit:
    """Water, rust or lime that ran down: streaks side by side, narrowing and fading downwards."""
    columns = patch.x.shape[1]
    broad = line_noise(rng, columns, scale=0.2 * radius + 1.5)[None, :]
    narrow = line_noise(rng, columns, scale=log_between(rng, (0.8, 2.5)))[None, :]
    length = radius * np.clip(between(rng, (4, 9)) + 2.5 * broad + 1.2 * narrow, 1.5, 11.0)
    sunk = np.clip(patch.y / length, -1, 1)
    half_width = radius * (0.62 - 0.35 * np.clip(sunk, 0, 1))
    across = 1 - np.abs(patch.x + 0.03 * radius * patch.noise) / half_width + 0.35 * broad
    across = across + (0.15 + 0.5 * np.clip(sunk, 0, 1)) * narrow
    top = smoothstep(patch.y - 0.5 * radius * broad, -0.6 * radius, 0.4 * radius)
    cover = smoothstep(across, -0.15, 0.55) * top * (1 - smoothstep(sunk, 0.75, 1.0))
    if chance(rng, 0.35):
        color, opacity = (0.95, 0.5, 0.22), between(rng, (0.35, 0.8))  # rust
    elif chance(rng, 0.45):
        color, opacity = (1.75, 1.75, 1.75), between(rng, (0.3, 0.65))  # efflorescence
    else:
        color, opacity = (0.25, 0.25, 0.24), between(rng, (0.35, 0.7))  # water, algae
    worn = np.clip(1 + 0.2 * patch.noise + 0.15 * patch.fine + 0.2 * narrow, 0.2, 1.4)
    worn = worn * (1 - 0.55 * np.clip(sunk, 0, 1))
    return Deposit(cover, color, opacity * worn, stains=True)
