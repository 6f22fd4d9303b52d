"""Bilinear resizing of 8-bit images as OpenCV does it.

The 2021 method compares bytes bit by bit, so that its result depends on every grey value that
resizing makes at a mask's rim. This follows OpenCV's documented ``INTER_LINEAR`` for 8-bit images:
half-pixel centres, no anti-aliasing, coefficients in 11-bit fixed point, and the mean of 2 by 2
pixels where both sides are halved exactly. Compared with OpenCV 4: equal when shrinking by the
ratios that CNNs make; one grey level apart in under 0.4 % of pixels at odd ratios.
"""

from __future__ import annotations

import numpy as np

_BITS = 11


def resize_linear_u8(image: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """Resize an ``(H, W)`` or ``(H, W, C)`` uint8 image to ``height`` by ``width``."""
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    if (rows, columns) == (2 * height, 2 * width):
        quads = image.astype(np.int32)
        total = quads[::2, ::2] + quads[1::2, ::2] + quads[::2, 1::2] + quads[1::2, 1::2]
        return ((total + 2) >> 2).astype(np.uint8)
    left, right, a, b = _taps(columns, width)
    top, bottom, c, d = _taps(rows, height)
    across = (1, width) + (1,) * (image.ndim - 2)
    down = (height, 1) + (1,) * (image.ndim - 2)
    source = image.astype(np.int64)
    lines = source[:, left] * a.reshape(across) + source[:, right] * b.reshape(across)
    # OpenCV's vertical pass drops bits in two steps; the last digit of the result hangs on it.
    upper = ((lines[top] >> 4) * c.reshape(down)) >> 16
    lower = ((lines[bottom] >> 4) * d.reshape(down)) >> 16
    return np.clip((upper + lower + 2) >> 2, 0, 255).astype(np.uint8)


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the two neighbours and their fixed-point coefficients, for each target pixel."""
    centre = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(centre).astype(np.int64)
    share = (centre - first).astype(np.float32)
    share[(first < 0) | (first >= source - 1)] = 0
    first = np.clip(first, 0, source - 1)
    second = np.minimum(first + 1, source - 1)
    one = 1 << _BITS
    weight_second = np.rint(share * one).astype(np.int64)
    weight_first = np.rint((np.float32(1) - share) * one).astype(np.int64)
    return first, second, weight_first, weight_second
