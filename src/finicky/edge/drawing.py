"""Pictures of what was found: overlay, mask and heat."""

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
        part = Image.fromarray(np.ascontiguousarray(photo.rows(top, bottom)))
        band = np.array(part.reduce(reduce) if reduce > 1 else part)
        y = np.minimum(np.arange(top, bottom, reduce), photo.height - 1)[: len(band)]
        x = np.minimum(np.arange(0, photo.width, reduce), photo.width - 1)[: band.shape[1]]
        inside = hit[rows[y]][:, columns[x]]
        if inside.any():
            band[inside] = (band[inside] * (1 - _TINT) + color * _TINT).astype(np.uint8)
            band[_border(hit, rows, columns, y, x, reduce)] = color.astype(np.uint8)
        shown.paste(Image.fromarray(band), (0, top // reduce))
    with atomic_path(path) as temporary:
        shown.save(temporary, format="JPEG", quality=88)


def write_found_mask(path: Path, found: Inspected, target: Target) -> None:
    """Class ids at the photo's size as an indexed PNG: the target's id, 0 elsewhere."""
    values = np.where(found.labels > 0, target.id, 0).astype(np.uint8)
    image = Image.fromarray(_enlarged(values, found))
    palette = bytearray(256 * 3)
    palette[3 * target.id : 3 * target.id + 3] = bytes.fromhex(target.color[1:])
    image.putpalette(bytes(palette))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", bits=8, compress_level=1)


def write_heat(path: Path, found: Inspected) -> None:
    """Probabilities at the photo's size as 8-bit grey PNG: 255 is 1."""
    values = np.rint(found.scores * 255).astype(np.uint8)
    with atomic_path(path) as temporary:
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


def _border(
    hit: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    reduce: int,
) -> np.ndarray:
    """Set px whose neighbour to one of four sides is not set."""

    def at(dy: int, dx: int) -> np.ndarray:
        down = np.clip(y + dy * reduce, 0, len(rows) - 1)
        across = np.clip(x + dx * reduce, 0, len(columns) - 1)
        return hit[rows[down]][:, columns[across]]

    return at(0, 0) & ~(at(-1, 0) & at(1, 0) & at(0, -1) & at(0, 1))
