"""How generated surfaces look: ranges and strengths, one record."""

from __future__ import annotations

from dataclasses import dataclass, fields

from finicky.errors import UsageError


@dataclass(frozen=True)
class SurfaceStyle:
    """Ranges from which each surface draws its own values; every range is ``(low, high)``.

    Lengths are pixels of the photo, whatever its size: a larger photo shows more concrete, not the
    same concrete in larger grain. Probabilities and shares lie in [0, 1].

    Attributes:
        crack_probability: Share of surfaces with at least one crack (``make_surface(crack=None)``).
        crack_count: Main cracks of a cracked surface; branches come on top.
        crack_width_px: Typical width of a main crack; branches are thinner, swellings wider.
        crack_darkness: Share of the light that the middle of a wide crack swallows.
        branch_count: Branches of one main crack.
        alligator_probability: Share of the cracked surfaces with a patch of map cracking.
        pores_per_megapixel: Bug holes in a million pixels.
        pore_radius_px: Smallest and largest bug hole; small ones are far more frequent.
        deposits_per_megapixel: Smudges, splatters, lichens and runs in a million pixels.
        deposit_radius_px: Size of a smudge, splatter or lichen; a run is about as wide.
        aggregate_probability: Share of surfaces with stones showing.
        aggregate_radius_px: Smallest and largest stone.
        aggregate_share: Area of the stones, as a share of the surface; above 1 they overlap.
        aggregate_contrast: How much stones differ in tone: standard deviation of its logarithm.
        formwork_probability: Share of surfaces with joints, board marks or saw cuts.
        grain_contrast: Strength of the sand and cement grain, relative to the mean reflectance.
        relief: Strength of the shading by the light that rakes over the surface.
        light_gradient: Fall of the light from one side of the photo to the other, relative.
        vignetting: Fall of the light into the corners, relative.
        shadow_probability: Share of photos with the edge of a cast shadow.
        brightness: Grey of the evenly lit concrete, 0 black to 1 white.
        white_balance: Largest relative error of the red and blue gain.
        blur_px: Standard deviation of the lens blur.
        noise_levels: Standard deviation of the sensor noise at mid grey, in levels of 255.
        sharpening: Strength of the sharpening inside the camera, 0 for none.

    Raises:
        UsageError: A range is reversed or a value lies outside its limits.
    """

    crack_probability: float = 0.6
    crack_count: tuple[int, int] = (1, 2)
    crack_width_px: tuple[float, float] = (1.2, 7.0)
    crack_darkness: tuple[float, float] = (0.25, 0.9)
    branch_count: tuple[int, int] = (0, 4)
    alligator_probability: float = 0.12
    pores_per_megapixel: tuple[float, float] = (80.0, 1200.0)
    pore_radius_px: tuple[float, float] = (0.9, 8.0)
    deposits_per_megapixel: tuple[float, float] = (0.0, 22.0)
    deposit_radius_px: tuple[float, float] = (6.0, 55.0)
    aggregate_probability: float = 0.4
    aggregate_radius_px: tuple[float, float] = (1.5, 12.0)
    aggregate_share: tuple[float, float] = (0.01, 2.5)
    aggregate_contrast: tuple[float, float] = (0.08, 0.3)
    formwork_probability: float = 0.4
    grain_contrast: tuple[float, float] = (0.03, 0.16)
    relief: tuple[float, float] = (0.12, 0.8)
    light_gradient: tuple[float, float] = (0.0, 0.35)
    vignetting: tuple[float, float] = (0.0, 0.3)
    shadow_probability: float = 0.1
    brightness: tuple[float, float] = (0.42, 0.72)
    white_balance: float = 0.06
    blur_px: tuple[float, float] = (0.35, 0.95)
    noise_levels: tuple[float, float] = (0.8, 3.0)
    sharpening: tuple[float, float] = (0.0, 0.7)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            values = _pair(field.name, value) if isinstance(field.default, tuple) else (value,)
            low, high = _LIMITS.get(field.name, (0.0, 1.0))
            if not all(low <= number <= high for number in values):  # also catches NaN
                raise UsageError(f"{field.name} must lie within {low:g} to {high:g}, got {value}")


_LIMITS = {
    "crack_count": (1, 100),
    "crack_width_px": (1.0, 100.0),
    "branch_count": (0, 100),
    "pores_per_megapixel": (0.0, 20_000.0),
    "pore_radius_px": (0.7, 200.0),
    "deposits_per_megapixel": (0.0, 1_000.0),
    "deposit_radius_px": (3.0, 2_000.0),
    "aggregate_radius_px": (0.5, 200.0),
    "aggregate_share": (0.001, 5.0),
    "relief": (0.01, 3.0),
    "light_gradient": (0.0, 0.9),
    "vignetting": (0.0, 0.9),
    "brightness": (0.05, 0.95),
    "white_balance": (0.0, 0.5),
    "blur_px": (0.0, 20.0),
    "noise_levels": (0.0, 50.0),
    "sharpening": (0.0, 3.0),
}


def _pair(name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise UsageError(f"{name} must be a pair (low, high), got {value}")
    if value[0] > value[1]:
        raise UsageError(
            f"{name} must run from low to high, got {value}. Did you mean {value[::-1]}?"
        )
    return value
