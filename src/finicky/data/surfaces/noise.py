"""Random fields: power-law noise, cells, and shapes cut out of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Plane = NDArray[np.floating[Any]]  # (H, W); float32 wherever it is as large as the photo
Shape = tuple[int, int]


def power_law(
    rng: np.random.Generator, shape: Shape, *, slope: float, corner_px: float, stretch: float = 1.0
) -> Plane:
    """Gaussian noise whose power falls as ``frequency ** -slope`` above ``1 / corner_px``.

    Natural surfaces follow such a law (Field, "Relations between the statistics of natural images
    and the response properties of cortical cells", 1987); below the corner the power is level, so
    that the grain does not turn into clouds.

    Args:
        rng: Source of the noise.
        shape: ``(H, W)`` in px.
        slope: Fall of the log power over the log frequency, 0 (white) to about 4.
        corner_px: Largest structure in px.
        stretch: Above 1 draws the structures out along x by that factor.

    Returns:
        ``(H, W)`` float32, mean 0, standard deviation 1.
    """
    height, width = (fft.next_fast_len(n, real=True) for n in shape)
    white = rng.standard_normal((height, width), dtype=np.float32)
    spectrum = fft.rfft2(white)
    fy = fft.fftfreq(height).astype(np.float32)[:, None]
    fx = fft.rfftfreq(width).astype(np.float32)[None, :] * np.float32(stretch)
    squared = fx * fx + fy * fy
    squared += np.float32(1.0 / corner_px**2)
    spectrum *= squared ** np.float32(-slope / 4)
    field = fft.irfft2(spectrum, s=(height, width))[: shape[0], : shape[1]]
    field -= field.mean()
    field /= max(float(field.std()), 1e-6)
    return np.ascontiguousarray(field)


def cells(rng: np.random.Generator, shape: Shape, *, size_px: float) -> NDArray[np.int32]:
    """The plane parted into random cells of about ``size_px``: ``(H, W)`` cell numbers."""
    empty = rng.random(shape, dtype=np.float32) >= 1.0 / size_px**2
    empty[shape[0] // 2, shape[1] // 2] = False  # a small plane may draw no cell at all
    row, column = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    return row * shape[1] + column


def per_cell(numbers: NDArray[np.int32], values: NDArray[Any]) -> NDArray[Any]:
    """Each pixel's value, looked up by its cell number in a table that may be shorter."""
    return values[numbers % len(values)]


def smoothstep(value: Any, low: float, high: float) -> Any:
    """0 below ``low``, 1 above ``high``, a smooth ramp between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def line_noise(rng: np.random.Generator, length: int, *, scale: float) -> Plane:
    """Smooth noise along a line: ``(length,)``, structures of about ``scale`` samples, std 1."""
    white = rng.standard_normal(length + int(6 * scale) + 2)
    smooth = ndimage.gaussian_filter1d(white, max(scale, 0.01), mode="wrap")[:length]
    # The expected spread, not the measured one: a short line stays a short piece of a long one.
    gain = np.sqrt(2 * np.sqrt(np.pi) * max(scale, 1 / (2 * np.sqrt(np.pi))))
    return (smooth * gain).astype(np.float32)
