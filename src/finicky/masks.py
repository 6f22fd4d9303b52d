"""Masks: one class id a pixel, in an 8-bit indexed PNG of the upright photo's size.

0 is unlabelled, 1 to 254 are the project's class ids, 255 is "ignore".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from finicky.classes import UNLABELLED, ClassTable, MaskClass
from finicky.errors import MaskError, UsageError
from finicky.files import atomic_path
from finicky.images import MAX_PIXELS, opened_image, printable, upright

IGNORE = 255

# The last of the Okabe-Ito colours that the default classes leave free; not white, because an
# indexed image whose entry 255 is white is read as a binary mask.
_IGNORE_COLOR = "#CC79A7"
_WHITE, _BLACK = [255, 255, 255], [0, 0, 0]
_REMEDY = "Save the mask as an 8-bit indexed or greyscale PNG of class ids."


@dataclass(frozen=True)
class PixelCounts:
    """How many pixels of masks belong to what; counts of several masks add up with ``+``."""

    by_class: tuple[tuple[str, int], ...]
    unlabelled: int = 0
    ignored: int = 0

    def of(self, name: str) -> int:
        """Pixels of the class of that name; 0 where the class is not in the table."""
        return dict(self.by_class).get(name, 0)

    @property
    def total(self) -> int:
        """All pixels, unlabelled and ignored ones included."""
        return sum(count for _, count in self.by_class) + self.unlabelled + self.ignored

    def __add__(self, other: PixelCounts) -> PixelCounts:
        names = dict.fromkeys([name for name, _ in (*self.by_class, *other.by_class)])
        return PixelCounts(
            tuple((name, self.of(name) + other.of(name)) for name in names),
            self.unlabelled + other.unlabelled,
            self.ignored + other.ignored,
        )


def read_mask(
    path: Path,
    classes: ClassTable,
    *,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """The class ids of a mask file, turned upright like its photo.

    Understood are:

    - indexed, greyscale (8 or 16 bits) or RGB with three equal channels, whose values are 0, ids
      of ``classes`` and 255 (ignore); the colours of an indexed image do not count;
    - binary masks of 0 and 255 in greyscale, RGB or 1 bit, and of 0 and 1 where no class has the
      id 1: the higher value becomes the only target class. An indexed image of 0 and 255 is one
      too if its entry 255 is white.

    The 0 of a binary mask is returned as 0, "unlabelled": nothing says what lies there. Whoever
    needs negatives may take a place without any target pixel as one.

    Args:
        path: The mask file.
        classes: The class ids that may occur.
        size: ``(width, height)`` of the upright photo, to be checked.
        max_pixels: As for `finicky.images.read_image`.

    Returns:
        ``(H, W)`` uint8 of 0, ids of ``classes`` and 255.

    Raises:
        ImageError: The file cannot be read as an image.
        MaskError: Its size or its values do not fit; the message says what was expected. Soft
            edges, JPEG, colour, transparency and an indexed image that shows 0 as white and 1 as
            black are refused, never guessed at.
    """
    path = Path(path)
    with opened_image(path, max_pixels=max_pixels) as image:
        image.load()
        values = upright(image, _one_channel(path, np.asarray(image)))
        indexed = image.mode == "P"
        inverted = indexed and _entry(image, 0) == _WHITE and _entry(image, 1) == _BLACK
        white_is_target = not indexed or _entry(image, IGNORE) == _WHITE
    _check_size(path, values, size)
    if values.dtype == np.bool_:  # 1 bit a pixel
        values = values.astype(np.uint8) * 255
    if inverted and values.max() == 1:
        raise MaskError(
            f"mask {printable(path)} shows its 1 as black and its 0 as white, so it may be "
            f"inverted. {_REMEDY}"
        )
    return _ids(path, values, classes, white_is_target)


def write_mask(path: Path, ids: np.ndarray, classes: ClassTable) -> None:
    """Write class ids as an 8-bit indexed PNG in the colours of the classes, whole or not at all.

    Args:
        path: Where to; the folder is made.
        ids: ``(H, W)`` integers of 0, ids of ``classes`` and 255.
        classes: Gives the ids allowed and their colours.

    Raises:
        UsageError: ``ids`` is not two-dimensional, is empty or holds another value.
        DataError: The file cannot be written.
    """
    known = {UNLABELLED, IGNORE, *(c.id for c in classes)}
    if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise UsageError(f"a mask is (H, W) of integers, got {ids.shape} of {ids.dtype}")
    unknown = sorted(set(np.unique(ids).tolist()) - known)
    if unknown:
        raise UsageError(f"mask values must be among {sorted(known)}, got {_some(unknown)}")
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(palette(classes))
    with atomic_path(Path(path)) as temporary:
        image.save(temporary, format="PNG", bits=8)


def target_mask(ids: np.ndarray, targets: Sequence[MaskClass]) -> np.ndarray:
    """True where a pixel belongs to one of ``targets``: ``(H, W)`` bool for ``(H, W)`` ids."""
    return np.isin(ids, [c.id for c in targets])


def count_pixels(ids: np.ndarray, classes: ClassTable) -> PixelCounts:
    """How many pixels of ``ids`` each class has, those with none included."""
    counts = np.bincount(ids.ravel(), minlength=256)
    return PixelCounts(
        tuple((c.name, int(counts[c.id])) for c in classes),
        unlabelled=int(counts[UNLABELLED]),
        ignored=int(counts[IGNORE]),
    )


def _entry(image: Image.Image, entry: int) -> list[int]:
    return (image.getpalette("RGB") or [])[3 * entry : 3 * entry + 3]


def _one_channel(path: Path, values: np.ndarray) -> np.ndarray:
    if values.ndim == 2:
        return values
    if values.shape[2] in (2, 4) and (values[..., -1] != 255).any():
        raise MaskError(
            f"mask {printable(path)} is partly transparent; expected class ids. {_REMEDY}"
        )
    colors = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
    if (colors != colors[..., :1]).any():
        raise MaskError(
            f"mask {printable(path)} is a colour image; expected class ids, one channel. {_REMEDY}"
        )
    return colors[..., 0]


def _check_size(path: Path, values: np.ndarray, size: tuple[int, int] | None) -> None:
    height, width = values.shape
    if size is None or (width, height) == tuple(size):
        return
    turned = (height, width) == tuple(size)
    hint = (
        "It seems to lie on its side: draw it on the photo as viewers show it, upright."
        if turned
        else "Save the mask at the size of its photo."
    )
    raise MaskError(
        f"mask {printable(path)} is {width}x{height} px but its photo is {size[0]}x{size[1]} px "
        f"(width x height, upright). {hint}"
    )


def _ids(path: Path, values: np.ndarray, classes: ClassTable, white_is_target: bool) -> np.ndarray:
    found = set(np.unique(values).tolist())
    ids = {c.id for c in classes}
    if IGNORE in found and found <= {0, IGNORE} and white_is_target:
        return _binary(path, values, classes)
    if found <= {UNLABELLED, IGNORE, *ids}:
        return np.array(values, dtype=np.uint8)
    if found <= {0, 1}:
        return _binary(path, values, classes)
    raise MaskError(
        f"mask {printable(path)} has the values {_some(sorted(found))}; expected class ids "
        f"{_some([UNLABELLED, *sorted(ids)])} (255: ignore) or a binary mask of 0 and 255. "
        f"{_remedy_for(path, found)}"
    )


def _binary(path: Path, values: np.ndarray, classes: ClassTable) -> np.ndarray:
    targets = [c for c in classes if c.role == "target"]
    if len(targets) != 1:
        names = ", ".join(c.name for c in targets) or "none"
        raise MaskError(
            f"mask {printable(path)} is binary ({_some(np.unique(values).tolist())}), which can "
            f"stand for one target class only, but the targets are: {names}. {_REMEDY}"
        )
    return np.where(values > 0, targets[0].id, UNLABELLED).astype(np.uint8)


def _remedy_for(path: Path, found: set[int]) -> str:
    if path.suffix.lower() in {".jpg", ".jpeg", ".jpe", ".jfif"}:
        return "JPEG changes the values of a mask: save it as PNG."
    if len(found) > 16:
        return "It looks like a photo or a mask with soft edges: save it with hard edges as PNG."
    return "Check the class ids in finicky.toml, or save the mask with these ids."


def _some(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:8])
    return f"{shown}, ..." if len(values) > 8 else shown


def palette(classes: ClassTable) -> bytes:
    """The colours of an indexed mask: red, green and blue of each number from 0 to 255."""
    # 256 entries, else Pillow would store fewer than 8 bits a pixel.
    colors = bytearray(256 * 3)
    for entry, color in [*((c.id, c.color) for c in classes), (IGNORE, _IGNORE_COLOR)]:
        colors[3 * entry : 3 * entry + 3] = bytes.fromhex(color.removeprefix("#"))
    return bytes(colors)
