"""What a pixel looks like without any network: brightness, edges and lines at several scales."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

# How far a feature looks around a pixel, in px: tiles are computed with this much border.
REACH = 96
_SCALES = (1.0, 1.8, 3.0, 5.0, 8.0)
# Length and width in px of the dark lines that are looked for, in 12 directions.
_LINES = ((11, 1.2), (25, 1.5), (41, 2.5))
_DIRECTIONS = 12
_GROUND = 20.0


def classic_features(rgb: np.ndarray) -> np.ndarray:
    """Features of every pixel, invariant to the brightness and contrast of the surroundings.

    Gaussian scale space, gradient magnitude and the eigenvalues of the Hessian (Lindeberg 1998),
    and the strongest answer of elongated second derivatives over all directions (Freeman and
    Adelson 1991), which bridges the gaps of a crack.

    Args:
        rgb: ``(H, W, 3)`` uint8.

    Returns:
        ``(H, W, F)`` float32.
    """
    return np.stack(list(_maps(levelled(rgb))), axis=-1)


def levelled(rgb: np.ndarray) -> np.ndarray:
    """Brightness minus that of the surroundings, in units of their spread."""
    from scipy.ndimage import gaussian_filter

    grey = rgb.astype(np.float32).mean(axis=2)
    centred = grey - gaussian_filter(grey, _GROUND)
    return centred / (np.sqrt(gaussian_filter(centred**2, _GROUND)) + 1)


def _maps(levelled: np.ndarray) -> Iterator[np.ndarray]:
    from scipy.ndimage import gaussian_filter, minimum_filter

    yield levelled
    yield minimum_filter(levelled, 5)
    yield gaussian_filter(np.abs(levelled), 4)
    for scale in _SCALES:
        yield from _scale_maps(levelled, scale)
    for length, width in _LINES:
        yield from line_maps(levelled, length, width)


def _scale_maps(levelled: np.ndarray, scale: float) -> Iterator[np.ndarray]:
    from scipy.ndimage import gaussian_filter

    def derivative(rows: int, columns: int) -> np.ndarray:
        return gaussian_filter(levelled, scale, order=(rows, columns))

    yield gaussian_filter(levelled, scale)
    yield np.hypot(derivative(0, 1), derivative(1, 0)) * scale
    xx, yy, xy = derivative(0, 2), derivative(2, 0), derivative(1, 1)
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    yield (middle + spread) * scale**2
    yield (middle - spread) * scale**2


def line_maps(levelled: np.ndarray, length: int, width: float) -> Iterator[np.ndarray]:
    """How strongly a dark line of some length and width, in px, runs through each pixel.

    Yields the strongest answer over all directions, by how much it exceeds their mean, and the
    weakest, each ``(H, W)`` float32.
    """
    from scipy.signal import fftconvolve

    kernels = _line_kernels(length, width)
    padded = np.pad(levelled, kernels.shape[1] // 2, mode="symmetric")
    strongest = np.full(levelled.shape, -np.inf, np.float32)
    weakest, total = -strongest, np.zeros_like(strongest)
    for kernel in kernels:
        answer = fftconvolve(padded, kernel, mode="valid")
        np.maximum(strongest, answer, out=strongest)
        np.minimum(weakest, answer, out=weakest)
        total += answer
    yield strongest
    yield strongest - total / len(kernels)
    yield weakest


@cache
def _line_kernels(length: int, width: float) -> np.ndarray:
    half = length // 2 + int(3 * width)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    kernels = []
    for angle in np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
        along = x * np.cos(angle) + y * np.sin(angle)
        across = (-x * np.sin(angle) + y * np.cos(angle)) / width
        kernel = np.exp(-8 * (along / length) ** 2) * (across**2 - 1) * np.exp(-(across**2) / 2)
        kernel -= kernel.mean()
        kernels.append(kernel / np.abs(kernel).sum())
    return np.array(kernels, np.float32)
