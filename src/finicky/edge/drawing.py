"""Pictures of what was found: overlay, mask and heat.

They are whole or not there, but not forced to the disk one by one: on memory cards that takes
longer than the inspection. After a power cut `--resume` finds by their sizes which are missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from finicky.edge.bundle import Target
from finicky.edge.inspect import Inspected
from finicky.edge.photos import Photo
from finicky.files import atomic_path

# Larger photos are shown at half or a third of their size.
_OVERLAY_PIXELS = 16_000_000
_STRIP = 512
_TINT = 0.45


def write_overlay(path: Path, photo: Photo, found: Inspected, target: Target) -> None:
    """The photo with the regions tinted and outlined in the target's colour, as JPEG."""
    reduce = 1
    while photo.width * photo.height > _OVERLAY_PIXELS * reduce**2:
        reduce += 1
    width, height = -(-photo.width // reduce), -(-photo.height // reduce)
    shown = Image.new("RGB", (width, height))
    color = np.array(list(bytes.fromhex(target.color[1:])), np.float32)
    columns, rows = _lookup(found, photo)
    hit = found.labels > 0
    step = max(1, _STRIP // reduce) * reduce
    for top in range(0, photo.height, step):
        bottom = min(top + step, photo.height)
        band = np.array(photo.rows(top, bottom))
        if reduce > 1:
            band = np.array(Image.fromarray(band).reduce(reduce))
        y = _with_neighbours(top, len(band), reduce, photo.height)
        x = _with_neighbours(0, band.shape[1], reduce, photo.width)
        around = hit[rows[y]][:, columns[x]]
        inside = around[1:-1, 1:-1]
        if inside.any():
            band[inside] = (band[inside] * (1 - _TINT) + color * _TINT).astype(np.uint8)
            band[_border(around)] = color.astype(np.uint8)
        shown.paste(Image.fromarray(band), (0, top // reduce))
    with atomic_path(path, durable=False) as temporary:
        shown.save(temporary, format="JPEG", quality=88)


def write_found_mask(path: Path, found: Inspected, target: Target) -> None:
    """Class ids at the photo's size as an indexed PNG: the target's id, 0 elsewhere."""
    values = np.where(found.labels > 0, target.id, 0).astype(np.uint8)
    image = Image.fromarray(_enlarged(values, found))
    palette = bytearray(256 * 3)
    palette[3 * target.id : 3 * target.id + 3] = bytes.fromhex(target.color[1:])
    image.putpalette(bytes(palette))
    with atomic_path(path, durable=False) as temporary:
        image.save(temporary, format="PNG", bits=8, compress_level=1)


def write_heat(path: Path, found: Inspected) -> None:
    """Probabilities at the photo's size as 8-bit grey PNG: 255 is 1."""
    values = np.rint(found.scores * 255).astype(np.uint8)
    with atomic_path(path, durable=False) as temporary:
        Image.fromarray(_enlarged(values, found)).save(temporary, format="PNG", compress_level=1)


def _enlarged(cells: np.ndarray, found: Inspected) -> np.ndarray:
    y, x = found.place.edges()
    return np.repeat(np.repeat(cells, np.diff(x), axis=1), np.diff(y), axis=0)


def _lookup(found: Inspected, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    """For each px of the width and of the height: which column or row of cells it is in."""
    y, x = found.place.edges()
    columns = np.searchsorted(x, np.arange(photo.width), side="right") - 1
    rows = np.searchsorted(y, np.arange(photo.height), side="right") - 1
    return columns, rows


def _with_neighbours(first: int, count: int, step: int, side: int) -> np.ndarray:
    """Every ``step``-th px from ``first`` on, with one more before and after, within the photo."""
    return np.clip(first + step * np.arange(-1, count + 1), 0, side - 1)


def _border(around: np.ndarray) -> np.ndarray:
    """Set px whose neighbour to one of four sides is not set; a margin of one px is left out."""
    up, down, left, right = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    return around[1:-1, 1:-1] & ~(up & down & left & right)
