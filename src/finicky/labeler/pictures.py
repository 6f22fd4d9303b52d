"""Photos for the page: upright, in tiles, as a pyramid of halved sizes."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from PIL import Image

from finicky.errors import UsageError
from finicky.images import MAX_LABELLED_PIXELS, read_image
from finicky.labeler.patches import TILE
from finicky.labeler.workplace import Photo

# Decoded photos that are kept: one of 100 Mpx with its smaller copies takes 400 MB.
_KEPT_BYTES = 700_000_000
_QUALITY = 92


@dataclass(frozen=True)
class Pyramid:
    """A photo at full size and halved again and again, until it fits one tile."""

    levels: tuple[Image.Image, ...]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(3 * image.width * image.height for image in self.levels)


class Pictures:
    """Decodes photos once and cuts tiles from them; safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Pyramid] = OrderedDict()
        self._decoding: dict[str, threading.Lock] = {}

    def tile(self, photo: Photo, level: int, column: int, row: int) -> bytes:
        """A JPEG of at most 512x512 px, without metadata.

        Raises:
            UsageError: There is no such tile.
            ImageError: The photo cannot be read.
        """
        levels = self.pyramid(photo).levels
        if not 0 <= level < len(levels):
            raise UsageError("no such tile")
        part = levels[level].crop(_box(levels[level], column, row))
        stream = io.BytesIO()
        part.save(stream, format="JPEG", quality=_QUALITY, subsampling=0)
        return stream.getvalue()

    def grey(self, photo: Photo, column: int, row: int) -> bytes:
        """The exact brightness of a full-size tile: one byte a pixel (ITU-R 601), row by row.

        The threshold and the magic wand work on these, not on what JPEG made of them.
        """
        full = self.pyramid(photo).levels[0]
        return full.crop(_box(full, column, row)).convert("L").tobytes()

    def thumbnail(self, photo: Photo, side: int = 160) -> bytes:
        """A small JPEG for the list."""
        image = self.pyramid(photo).levels[-1].copy()
        image.thumbnail((side, side))
        stream = io.BytesIO()
        image.save(stream, format="JPEG", quality=80)
        return stream.getvalue()

    def rgb(self, photo: Photo) -> np.ndarray:
        """The full photo as ``(H, W, 3)`` uint8."""
        return np.asarray(self.pyramid(photo).levels[0])

    def pyramid(self, photo: Photo) -> Pyramid:
        """The decoded photo; the first call of a photo reads the file."""
        with self._lock:
            if photo.id in self._held:
                self._held.move_to_end(photo.id)
                return self._held[photo.id]
            decoding = self._decoding.setdefault(photo.id, threading.Lock())
        with decoding:  # several tiles of one photo are asked for at once
            with self._lock:
                if photo.id in self._held:
                    return self._held[photo.id]
            made = _build(photo)
            with self._lock:
                self._held[photo.id] = made
                while len(self._held) > 1 and self._bytes() > _KEPT_BYTES:
                    self._held.popitem(last=False)
        return made

    def _bytes(self) -> int:
        return sum(pyramid.nbytes for pyramid in self._held.values())


def _build(photo: Photo) -> Pyramid:
    levels = [Image.fromarray(read_image(photo.path, max_pixels=MAX_LABELLED_PIXELS))]
    while max(levels[-1].size) > TILE:
        levels.append(levels[-1].reduce(2))
    return Pyramid(tuple(levels))


def _box(image: Image.Image, column: int, row: int) -> tuple[int, int, int, int]:
    x, y = column * TILE, row * TILE
    if not (0 <= x < image.width and 0 <= y < image.height):
        raise UsageError("no such tile")
    return x, y, min(x + TILE, image.width), min(y + TILE, image.height)
