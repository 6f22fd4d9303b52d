"""The small pictures of the gallery: a crop, the crop with its marks, and a filter's response."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from finicky.images import resize_image
from finicky.tiling import tile_origins

SIDE = 224  # px, of every picture
CROP = 224  # px of the photo at its own resolution, as filters are scored

_QUALITY = 82
_AWAY, _LINE = 3, 2  # px
_MARK = np.array([0, 96, 170], dtype=np.uint8)
_HEAT = np.array([226, 92, 0], dtype=np.float64)
# How much of the photo is left under the response: enough to recognise it, too little to compete.
_FADED, _OPAQUE = 0.45, 0.9


def busiest_crop(photo: np.ndarray, marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square of at most `CROP` px with most marked pixels; the first one where they tie.

    Args:
        photo: ``(H, W, 3)`` uint8.
        marked: ``(H, W)`` bool.
    """
    height, width = marked.shape
    side = min(CROP, height, width)
    origins = tile_origins(width, height, side, max(1, side // 2))
    x, y = max(origins, key=lambda o: int(marked[o[1] : o[1] + side, o[0] : o[0] + side].sum()))
    part = slice(y, y + side), slice(x, x + side)
    return np.ascontiguousarray(photo[part]), marked[part]


def plain(crop: np.ndarray) -> np.ndarray:
    """A crop ``(S, S, 3)`` at the size of the gallery."""
    return resize_image(crop, SIDE, SIDE)


def with_outline(picture: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """``picture``, ``(SIDE, SIDE, 3)`` uint8, with a blue line around ``marked`` ``(S, S)``.

    The line keeps a few px away, so that a hairline and the answer to it stay in sight.
    """
    image = Image.fromarray(marked.astype(np.uint8) * 255).resize((SIDE, SIDE))
    image = image.point(lambda v: 255 if v >= 128 else 0)
    inner = image.filter(ImageFilter.MaxFilter(2 * _AWAY + 1))
    outer = inner.filter(ImageFilter.MaxFilter(2 * _LINE + 1))
    out = picture.copy()
    out[np.asarray(outer) > np.asarray(inner)] = _MARK
    return out


def with_response(picture: np.ndarray, response: np.ndarray) -> np.ndarray:
    """A faded grey ``picture`` with ``response`` ``(SIDE, SIDE)`` in [0, 1] laid over in orange."""
    grey = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float64)
    ground = (255 - _FADED * (255 - grey))[..., None]
    alpha = _OPAQUE * np.clip(response, 0, 1)[..., None]
    return np.rint(ground * (1 - alpha) + _HEAT * alpha).astype(np.uint8)


def jpeg(picture: np.ndarray) -> bytes:
    """The bytes of a JPEG file without metadata."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()
