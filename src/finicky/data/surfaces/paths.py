"""Where cracks run: polylines with a width at every point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Voronoi

from finicky.data.surfaces.draws import between, chance, count_between, log_between
from finicky.data.surfaces.noise import Shape, line_noise, smoothstep
from finicky.data.surfaces.style import SurfaceStyle

Points = NDArray[np.float64]

_SPACING_PX = 0.35  # close enough that a line drawn as discs shows no scallops


@dataclass(frozen=True)
class CrackPath:
    """One stretch of crack: ``points`` ``(N, 2)`` as x, y in px, ``width_px`` ``(N,)``.

    Where the crack closes up for a while its width falls to 0.
    """

    points: Points
    width_px: NDArray[np.float64]


def crack_network(rng: np.random.Generator, shape: Shape, style: SurfaceStyle) -> list[CrackPath]:
    """All cracks of a surface: main cracks with branches and by-passes, or map cracking."""
    paths: list[CrackPath] = []
    if chance(rng, style.alligator_probability):
        paths += _map_cracking(rng, shape, style)
        if chance(rng, 0.5):
            return paths
    for _ in range(count_between(rng, style.crack_count)):
        width = log_between(rng, style.crack_width_px)
        start, end, tips = _ends(rng, shape)
        main = _crack(rng, start, end, width=width, tips=tips)
        paths.append(main)
        for _ in range(count_between(rng, style.branch_count)):
            paths += _branch(rng, main, depth=2)
    return paths


def _ends(rng: np.random.Generator, shape: Shape) -> tuple[Points, Points, tuple[bool, bool]]:
    """Two points beyond opposite borders of the photo; now and then a tip that lies inside it."""
    height, width = shape
    if chance(rng, 0.75 if width >= height else 0.25):
        ends = np.array([[-3.0, rng.uniform(0, height)], [width + 3.0, rng.uniform(0, height)]])
    else:
        ends = np.array([[rng.uniform(0, width), -3.0], [rng.uniform(0, width), height + 3.0]])
    middle = np.array([width, height]) * rng.uniform(0.3, 0.7, 2)
    tips = chance(rng, 0.2), chance(rng, 0.25)
    for end, tip in enumerate(tips):
        if tip:
            ends[end] += (middle - ends[end]) * rng.uniform(0.2, 0.7)
    return ends[0], ends[1], tips


def _crack(
    rng: np.random.Generator, start: Points, end: Points, *, width: float, tips: tuple[bool, bool]
) -> CrackPath:
    """One crack from ``start`` to ``end``; ``tips`` says which ends run out to nothing."""
    points = _resample(_wander(rng, start, end))
    count = len(points)
    step = 1 / _SPACING_PX
    swell = 0.28 * line_noise(rng, count, scale=14 * step) + 0.15 * line_noise(
        rng, count, scale=2.5 * step
    )
    profile = width * np.exp(swell)
    profile *= smoothstep(line_noise(rng, count, scale=45 * step), *_fading(rng))
    place = np.linspace(0, 1, count)
    for tip, distance in zip(tips, (place, 1 - place), strict=True):
        if tip:
            profile *= np.minimum(1, distance / between(rng, (0.2, 0.6))) ** 0.7
    return CrackPath(points=points, width_px=profile.astype(np.float64))


def _fading(rng: np.random.Generator) -> tuple[float, float]:
    """Limits of the noise between which a crack closes up: most hardly do, some come and go."""
    low = between(rng, (-2.8, -1.2)) if chance(rng, 0.4) else -4.0
    return low, low + 1.6


def _wander(rng: np.random.Generator, start: Points, end: Points) -> Points:
    """A jagged line by midpoint displacement, in segments of about 4 px.

    After Fournier, Fussell and Carpenter, "Computer rendering of stochastic models", 1982.
    """
    chord = end - start
    length = float(np.hypot(*chord))
    levels = max(1, int(np.ceil(np.log2(max(length, 8.0) / 4.0))))
    normal = np.array([-chord[1], chord[0]]) / max(length, 1e-9)
    size, falloff = length * log_between(rng, (0.05, 0.16)), between(rng, (0.48, 0.58))
    offsets = np.zeros(2)
    for _ in range(levels):
        middle = (offsets[:-1] + offsets[1:]) / 2 + size * rng.uniform(-1, 1, len(offsets) - 1)
        woven = np.empty(len(offsets) + len(middle))
        woven[0::2], woven[1::2] = offsets, middle
        offsets, size = woven, size * falloff
    place = np.linspace(0, 1, len(offsets))
    place[1:-1] += rng.uniform(-0.3, 0.3, len(offsets) - 2) / len(offsets)
    return start + place[:, None] * chord + offsets[:, None] * normal


def _resample(points: Points) -> Points:
    """The same line in even steps of `_SPACING_PX`."""
    gaps = np.hypot(*np.diff(points, axis=0).T)
    place = np.concatenate([[0.0], np.cumsum(gaps)])
    steps = np.linspace(0, place[-1], max(2, int(place[-1] / _SPACING_PX)))
    return np.column_stack([np.interp(steps, place, points[:, axis]) for axis in range(2)])


def _branch(rng: np.random.Generator, parent: CrackPath, *, depth: int) -> list[CrackPath]:
    """A thinner crack that leaves ``parent``: it runs out, or it comes back further along."""
    count = len(parent.points)
    root = int(rng.integers(count // 20, max(count // 20 + 1, count - count // 20)))
    width = max(0.8, float(parent.width_px[root])) * between(rng, (0.35, 0.75))
    if chance(rng, 0.25):
        far = min(count - 1, root + int(rng.uniform(0.1, 0.35) * count))
        loop = _crack(
            rng, parent.points[root], parent.points[far], width=width, tips=(False, False)
        )
        return [loop]
    ahead = parent.points[min(count - 1, root + 60)] - parent.points[max(0, root - 60)]
    turn = rng.choice([-1, 1]) * np.radians(rng.uniform(25, 75))
    heading = np.arctan2(ahead[1], ahead[0]) + turn + (np.pi if chance(rng, 0.5) else 0.0)
    reach = count * _SPACING_PX * between(rng, (0.1, 0.5))
    end = parent.points[root] + reach * np.array([np.cos(heading), np.sin(heading)])
    path = _crack(rng, parent.points[root], end, width=width, tips=(False, True))
    if depth > 1 and chance(rng, 0.35):
        return [path, *_branch(rng, path, depth=depth - 1)]
    return [path]


def _map_cracking(rng: np.random.Generator, shape: Shape, style: SurfaceStyle) -> list[CrackPath]:
    """Closed cells of thin cracks ("alligator") in a patch: the borders of a Voronoi diagram."""
    size = between(rng, (22, 55))
    centre = np.array([shape[1], shape[0]]) * rng.uniform(0.25, 0.75, 2)
    patch = np.minimum(np.array([shape[1], shape[0]]) * rng.uniform(0.3, 0.6, 2), 12 * size)
    seeds = centre + patch * rng.uniform(-1.3, 1.3, (max(8, int(6.8 * patch.prod() / size**2)), 2))
    diagram = Voronoi(seeds)
    width = style.crack_width_px[0] * between(rng, (1.0, 2.0))
    paths = []
    for first, second in diagram.ridge_vertices:
        if first < 0:
            continue
        start, end = diagram.vertices[first], diagram.vertices[second]
        away = float(np.hypot(*(((start + end) / 2 - centre) / patch)))
        if rng.random() > smoothstep(np.float32(1.15 - away), 0.0, 0.5) * 0.92:
            continue
        if np.hypot(*(end - start)) > 2:
            own = width * between(rng, (0.6, 1.4))
            paths.append(_crack(rng, start, end, width=own, tips=(False, chance(rng, 0.2))))
    return paths
