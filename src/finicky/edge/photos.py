"""A photo of which rows can be had without a second copy of all its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from finicky.edge.places import Location, read_location
from finicky.images import (
    MAX_PIXELS,
    eight_bits,
    opened_image,
    orientation,
    strip_as_rgb,
    upright,
)

# Up to here all rows are converted at once: quicker, and 48 MB at most.
_AT_ONCE = 16_000_000


class Photo:
    """Upright 8-bit RGB, row by row. `opened_photo` makes one of a file.

    Attributes:
        width: In px.
        height: In px.
        location: What the file says of its place and scale.
    """

    location = Location()

    def __init__(self, rgb: np.ndarray) -> None:
        self.height, self.width = rgb.shape[:2]
        self._rgb: np.ndarray | None = rgb
        self._image: Image.Image | None = None
        self._turned = 1

    @classmethod
    def decoded(cls, image: Image.Image) -> Photo:
        """Of a Pillow image; decodes all of it."""
        early = read_location(image) if image.format == "TIFF" else None
        image.load()
        location = read_location(image) if early is None else early
        photo = cls._of(image)
        photo.location = location
        return photo

    @classmethod
    def _of(cls, image: Image.Image) -> Photo:
        if image.mode.startswith("I") or image.mode == "F":
            grey = np.ascontiguousarray(upright(image, eight_bits(image)))
            return cls(np.broadcast_to(grey[..., None], (*grey.shape, 3)))
        photo = cls(np.empty((0, 0, 3), np.uint8))
        photo._image, photo._rgb, photo._turned = image, None, orientation(image)
        width, height = image.size
        photo.width, photo.height = (height, width) if photo._turned >= 5 else (width, height)
        if width * height <= _AT_ONCE:
            photo._rgb, photo._image = photo.rows(0, photo.height), None
        return photo

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Rows ``top`` to ``bottom`` (not included) as ``(rows, width, 3)`` uint8."""
        if self._rgb is not None:
            return self._rgb[top:bottom]
        assert self._image is not None
        width, height = self._image.size
        if self._turned in (1, 2):
            box = (0, top, width, bottom)
        elif self._turned in (3, 4):
            box = (0, height - bottom, width, height - top)
        elif self._turned in (5, 6):
            box = (top, 0, bottom, height)
        else:
            box = (width - bottom, 0, width - top, height)
        values = np.asarray(strip_as_rgb(self._image.crop(box)))
        return np.ascontiguousarray(upright(self._image, values))


@contextmanager
def opened_photo(path: Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[Photo]:
    """A file as `Photo`, pixel for pixel what `finicky.images.read_image` gives.

    Raises:
        ImageError: As `read_image`.
    """
    with opened_image(path, max_pixels=max_pixels) as image:
        photo = Photo.decoded(image)
    # Outside of the reader's guard, so that faults of ours are not taken for damaged files. A
    # decoded image keeps its pixels when its file is closed.
    yield photo
