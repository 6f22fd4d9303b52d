"""One labelled surface: everything drawn, lit and photographed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finicky.classes import DEFAULT_CLASSES
from finicky.data.surfaces.aggregate import with_stones
from finicky.data.surfaces.camera import expose
from finicky.data.surfaces.cracks import CrackLayer, draw_cracks
from finicky.data.surfaces.dirt import with_dirt
from finicky.data.surfaces.draws import chance
from finicky.data.surfaces.formwork import with_formwork
from finicky.data.surfaces.light import illumination, shading
from finicky.data.surfaces.noise import Shape
from finicky.data.surfaces.paths import crack_network
from finicky.data.surfaces.pores import draw_pores
from finicky.data.surfaces.style import SurfaceStyle
from finicky.data.surfaces.texture import bare_concrete
from finicky.errors import UsageError

_SMALLEST_PX = 32


@dataclass(frozen=True)
class Surface:
    """A photo of concrete and what every pixel of it shows.

    Attributes:
        photo: ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)`` uint8 ids of `finicky.classes.DEFAULT_CLASSES`; no pixel is unlabelled.
        seed: What `make_surface` was given.
        has_crack: Whether the mask holds a crack.
    """

    photo: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    seed: int
    has_crack: bool


def make_surface(
    seed: int,
    *,
    width: int = 480,
    height: int = 320,
    style: SurfaceStyle | None = None,
    crack: bool | None = None,
) -> Surface:
    """Draw one surface with its exact mask.

    The same arguments give the same bytes (with the same releases of numpy and scipy on the same
    kind of processor). Each ingredient has its own stream of random numbers, so ``crack=True`` and
    ``crack=False`` differ in the cracks alone.

    Args:
        seed: 0 or more.
        width: Photo width in px, at least 32.
        height: Photo height in px, at least 32.
        style: Ranges to draw from; the defaults of `SurfaceStyle` where None.
        crack: With or without cracks; None draws it by ``style.crack_probability``.

    Raises:
        UsageError: ``width`` or ``height`` below 32 px, or a negative seed.
    """
    _check(seed, width, height)
    style = style or SurfaceStyle()
    shape = (height, width)
    ground_rng, line_rng, dirt_rng, pore_rng, crack_rng, light_rng, camera_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(7)
    )
    drawn = chance(crack_rng, style.crack_probability)
    ground = with_stones(ground_rng, bare_concrete(ground_rng, shape, style), style)
    ground = with_formwork(line_rng, ground, style)
    ground, dirt = with_dirt(dirt_rng, ground, style)
    pores = draw_pores(pore_rng, shape, style)
    pits, light = pores.height, pores.light
    mask = _mask(dirt, pores.inside)
    if drawn if crack is None else crack:
        cracks = _cracks(crack_rng, shape, style)
        pits, light = np.minimum(pits, cracks.height), light * cracks.light
        mask[cracks.inside] = DEFAULT_CLASSES.named("crack").id
    light = (
        light
        * shading(light_rng, ground.height, pits, style)
        * illumination(light_rng, shape, style)
    )
    exposed_for = float(ground.color.mean())
    photo = expose(camera_rng, ground.color * light[..., None], style, reference=exposed_for)
    has_crack = bool((mask == DEFAULT_CLASSES.named("crack").id).any())
    return Surface(photo=photo, mask=mask, seed=seed, has_crack=has_crack)


# A crack at least 1 px wide shows within a few draws: the loop below ends.
def _cracks(rng: np.random.Generator, shape: Shape, style: SurfaceStyle) -> CrackLayer:
    """Cracks that show: a network that misses the photo or fades out entirely is drawn again."""
    while True:
        cracks = draw_cracks(rng, shape, crack_network(rng, shape, style), style)
        if cracks.inside.sum() >= min(shape) // 2:
            return cracks


def _mask(dirt: NDArray[np.bool_], pores: NDArray[np.bool_]) -> NDArray[np.uint8]:
    mask = np.full(dirt.shape, DEFAULT_CLASSES.named("background").id, dtype=np.uint8)
    mask[dirt] = DEFAULT_CLASSES.named("dirt").id
    mask[pores] = DEFAULT_CLASSES.named("pore").id
    return mask


def _check(seed: int, width: int, height: int) -> None:
    for name, value in (("width", width), ("height", height)):
        if value < _SMALLEST_PX:
            raise UsageError(f"{name} must be at least {_SMALLEST_PX} px, got {value}")
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, got {seed}")
