"""Lines that are no cracks: panel joints, board marks, saw cuts, scratches."""

from __future__ import annotations

import numpy as np

from finicky.data.surfaces.draws import between, chance, log_between
from finicky.data.surfaces.noise import Plane, Shape, line_noise, power_law, smoothstep
from finicky.data.surfaces.style import SurfaceStyle
from finicky.data.surfaces.texture import Ground


def with_formwork(rng: np.random.Generator, ground: Ground, style: SurfaceStyle) -> Ground:
    """The same ground with what the formwork and the saw left, if this surface has any."""
    if chance(rng, 0.3):
        ground = _scratches(rng, ground)
    if not chance(rng, style.formwork_probability):
        return ground
    kind = rng.choice(["boards", "joint", "saw cut", "cross"], p=[0.35, 0.35, 0.15, 0.15])
    upright = chance(rng, 0.5)
    if kind == "boards":
        return _boards(rng, ground, upright=upright)
    if kind == "saw cut":
        return _groove(rng, ground, upright=upright, width_px=log_between(rng, (2.5, 7)))
    ground = _groove(rng, ground, upright=upright, width_px=log_between(rng, (0.8, 3)))
    if kind == "cross":
        ground = _groove(rng, ground, upright=not upright, width_px=log_between(rng, (0.8, 3)))
    return ground


def _groove(rng: np.random.Generator, ground: Ground, *, upright: bool, width_px: float) -> Ground:
    """One straight line right across: a dark gap or a light fin, and a step between its sides."""
    across, along = _line_coordinates(rng, ground.height.shape, upright=upright)
    distance = np.abs(across)
    wear = 0.25 + 0.75 * smoothstep(_along(rng, along, 30.0), -2.2, -0.6)
    line = np.clip(width_px / 2 - distance + 0.5, 0, min(1.0, width_px)) * wear
    swallow = between(rng, (0.25, 0.85)) if chance(rng, 0.8) else -between(rng, (0.1, 0.3))
    side = smoothstep(across, -1.0, 1.0)
    tone = (1 - swallow * line) * (1 + between(rng, (-0.05, 0.05)) * side)
    # Dirt and lime gather along a joint.
    tone *= 1 + between(rng, (-0.12, 0.08)) * np.exp(-distance / between(rng, (3, 18)))
    step = between(rng, (-0.7, 0.7)) * side - np.sign(swallow) * 0.35 * width_px * line
    return Ground(
        color=ground.color * tone[..., None].astype(np.float32),
        height=(ground.height + step).astype(np.float32),
    )


def _boards(rng: np.random.Generator, ground: Ground, *, upright: bool) -> Ground:
    """The print of a boarded formwork: joints at nearly even steps, a tone and grain each board."""
    shape = ground.height.shape
    across, along = _line_coordinates(rng, shape, upright=upright)
    pitch = between(rng, (28, 95))
    spacing = across / pitch + 0.02 * np.sin(across / pitch * 2.3)
    board = np.floor(spacing).astype(np.int32)
    offset = np.abs(spacing - np.rint(spacing)) * pitch  # px to the nearest joint
    tones = rng.normal(0, between(rng, (0.015, 0.06)), 997)
    levels = rng.normal(0, between(rng, (0.1, 0.5)), 997)
    fins = rng.uniform(-0.5, 0.6, 997)  # some joints leak a fin, some leave a gap
    joint = np.clip(between(rng, (0.5, 1.6)) - offset + 0.5, 0, 1)
    joint *= smoothstep(_along(rng, along, 40.0), -1.2, 0.0)
    swallow = fins[np.rint(spacing).astype(np.int32) % 997]
    wood = power_law(
        rng,
        shape[::-1] if upright else shape,
        slope=1.6,
        corner_px=14,
        stretch=between(rng, (8, 25)),
    )
    wood = wood.T if upright else wood
    tone = np.exp(tones[board % 997] + between(rng, (0.01, 0.05)) * wood) * (1 - swallow * joint)
    step = levels[board % 997] + between(rng, (0.02, 0.12)) * wood - 0.6 * swallow * joint
    return Ground(
        color=ground.color * tone[..., None].astype(np.float32),
        height=(ground.height + step).astype(np.float32),
    )


def _scratches(rng: np.random.Generator, ground: Ground) -> Ground:
    """A few scuffs: long flat arcs, lighter or darker by a little."""
    shape = ground.height.shape
    tone = np.ones(shape, dtype=np.float32)
    for _ in range(int(rng.integers(1, 5))):
        across, along = _line_coordinates(rng, shape, upright=False, tilt=np.pi / 2)
        bow = across + along * along / between(rng, (600, 4000))
        start, length = between(rng, (-200, 100)), log_between(rng, (40, 300))
        inside = smoothstep(along, start, start + 25) * (
            1 - smoothstep(along, start + length, start + length + 25)
        )
        line = np.clip(log_between(rng, (0.4, 1.2)) - np.abs(bow) + 0.5, 0, 1) * inside
        broken = smoothstep(_along(rng, along, 6.0), -0.8, 0.8)
        tone *= (1 + between(rng, (-0.22, 0.2)) * line * broken).astype(np.float32)
    return Ground(color=ground.color * tone[..., None], height=ground.height)


def _line_coordinates(
    rng: np.random.Generator, shape: Shape, *, upright: bool, tilt: float = 0.06
) -> tuple[Plane, Plane]:
    """Distance in px of each pixel from a random straight line, and its place along the line."""
    angle = rng.uniform(-tilt, tilt) + (np.pi / 2 if upright else 0.0)
    x = np.arange(shape[1], dtype=np.float32) + 0.5 - shape[1] * between(rng, (0.1, 0.9))
    y = np.arange(shape[0], dtype=np.float32) + 0.5 - shape[0] * between(rng, (0.1, 0.9))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = x[None, :] * cos + y[:, None] * sin
    across = y[:, None] * cos - x[None, :] * sin
    return across + np.float32(0.3) * _along(rng, along, 12.0), along


def _along(rng: np.random.Generator, along: Plane, scale: float) -> Plane:
    """Smooth noise that depends only on the place along a line; std about 1."""
    length = int(np.ceil(float(np.ptp(along)))) + 2
    noise = line_noise(rng, length, scale=scale)
    place = along - along.min()
    whole = np.minimum(place.astype(np.int32), length - 2)
    part = place - whole.astype(np.float32)
    return noise[whole] * (1 - part) + noise[whole + 1] * part
