"""Photos and the masks that belong to them, matched by relative path."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from finicky.classes import ClassTable, MaskClass
from finicky.errors import DataError, MaskError, UsageError
from finicky.images import list_images, printable, read_image
from finicky.masks import PixelCounts, count_pixels, read_mask
from finicky.progress import Progress, silent

# Lossy files (JPEG, most WebP) change the values of a mask.
MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif"})


@dataclass(frozen=True)
class Pair:
    """One photo with its mask; ``key`` is the photo's path relative to its folder, with ``/``."""

    key: str
    photo: Path
    mask: Path


@dataclass(frozen=True)
class PairScan:
    """What lies in a photos and a masks folder, by name only; nothing was opened."""

    pairs: tuple[Pair, ...]
    unmasked: tuple[Path, ...]
    orphan_masks: tuple[Path, ...]


@dataclass(frozen=True)
class Rejected:
    """A file that was left out, and why, on one line."""

    path: Path
    reason: str


@dataclass(frozen=True)
class UsablePairs:
    """The pairs that can be read, and what their masks hold.

    ``with_target`` counts the usable pairs in whose mask at least one target pixel lies.
    """

    usable: tuple[Pair, ...]
    rejected: tuple[Rejected, ...]
    pixels: PixelCounts
    with_target: int


def find_pairs(photos: Path, masks: Path) -> PairScan:
    """Match the photos below one folder with the masks below another.

    A mask belongs to the photo ``site/bridge.07.jpg`` if its relative path is
    ``site/bridge.07.jpg.png`` or ``site/bridge.07`` with a lossless suffix (png, tif, tiff, bmp,
    gif). Only whole relative paths match. Suffixes compare without case, names in Unicode normal
    form C, because macOS and archives store accents decomposed.

    Returns:
        All pairs in order of their keys, the photos without mask and the image files below
        ``masks`` without photo.

    Raises:
        UsageError: A folder is missing, or both are the same.
        MaskError: Two masks fit one photo, or one mask fits two photos.
        DataError: No photo was found, or none has a mask.
    """
    photos, masks = Path(photos), Path(masks)
    mask_files = list_images(masks, allow_empty=True)
    photo_files = _photo_files(photos, masks)
    chosen = _match(
        {path.relative_to(photos).as_posix(): path for path in photo_files},
        {path.relative_to(masks).as_posix(): path for path in mask_files},
    )
    if not chosen:
        raise DataError(_nothing_matched(photos, masks, photo_files[0], mask_files))
    pairs = tuple(
        Pair(path.relative_to(photos).as_posix(), path, chosen[path])
        for path in photo_files
        if path in chosen
    )
    used = set(chosen.values())
    return PairScan(
        pairs,
        unmasked=tuple(path for path in photo_files if path not in chosen),
        orphan_masks=tuple(path for path in mask_files if path not in used),
    )


def load_pair(pair: Pair, classes: ClassTable) -> tuple[np.ndarray, np.ndarray]:
    """The photo as ``(H, W, 3)`` uint8 RGB and its class ids as ``(H, W)`` uint8, both upright.

    Raises:
        ImageError: One of the files cannot be read.
        MaskError: The mask has another size than the photo, or values that are no class ids.
    """
    photo = read_image(pair.photo)
    height, width = photo.shape[:2]
    return photo, read_mask(pair.mask, classes, size=(width, height))


def usable_pairs(
    pairs: Sequence[Pair],
    classes: ClassTable,
    targets: Sequence[MaskClass],
    *,
    progress: Progress = silent,
) -> UsablePairs:
    """Read every pair once, one at a time, and say which can be used.

    Raises:
        DataError: No pair can be used, or no usable mask holds a pixel of ``targets``.
    """
    usable, rejected, with_target = [], [], 0
    pixels = PixelCounts(tuple((c.name, 0) for c in classes))
    for done, pair in enumerate(pairs, start=1):
        try:
            _, ids = load_pair(pair, classes)
        except DataError as error:
            rejected.append(Rejected(pair.photo, str(error)))
        else:
            counts = count_pixels(ids, classes)
            usable.append(pair)
            pixels += counts
            with_target += any(counts.of(c.name) for c in targets)
        progress("reading pairs", done, len(pairs))
    if not usable:
        first = f" The first: {rejected[0].reason}" if rejected else ""
        raise DataError(f"none of {len(pairs)} pairs of photo and mask can be used.{first}")
    if not with_target:
        raise DataError(_no_target(targets, len(usable), pixels))
    return UsablePairs(tuple(usable), tuple(rejected), pixels, with_target)


def _photo_files(photos: Path, masks: Path) -> list[Path]:
    found = list_images(photos)
    inside = masks.resolve()
    if inside == photos.resolve():
        raise UsageError(f"photos and masks are both {printable(photos)}; give two folders.")
    if not inside.is_relative_to(photos.resolve()):
        return found
    return [path for path in found if not path.resolve().is_relative_to(inside)]


def _match(photos: dict[str, Path], masks: dict[str, Path]) -> dict[Path, Path]:
    """Photo -> mask: first by the full photo name, then by the name without suffix."""
    by_name, by_stem = defaultdict(list), defaultdict(list)
    for key, path in photos.items():
        by_name[_name(key)].append(path)
        by_stem[_stem(key)].append(path)
    usable = {key: path for key, path in masks.items() if path.suffix.lower() in MASK_SUFFIXES}
    chosen: dict[Path, Path] = {}
    named = {key for key in usable if _name(_without_suffix(key)) in by_name}
    for key in sorted(named):
        _choose(chosen, by_name[_name(_without_suffix(key))], usable[key])
    full = set(chosen)
    for key in sorted(usable.keys() - named):
        fitting = by_stem.get(_stem(key), [])
        if fitting:
            _choose(chosen, [p for p in fitting if p not in full] or fitting, usable[key])
    return chosen


def _choose(chosen: dict[Path, Path], photos: list[Path], mask: Path) -> None:
    photo = photos[0]
    if len(photos) > 1:
        raise MaskError(
            f"mask {printable(mask)} fits {len(photos)} photos, {photo.name} and {photos[1].name}. "
            f"Name the masks after the whole photo name: {photo.name}.png."
        )
    if photo in chosen:
        raise MaskError(
            f"photo {printable(photo)} has two masks, {printable(chosen[photo])} and "
            f"{printable(mask)}. Keep one of them."
        )
    chosen[photo] = mask


def _without_suffix(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _stem(key: str) -> str:
    return unicodedata.normalize("NFC", _without_suffix(key))


def _name(key: str) -> str:
    return _stem(key) + PurePosixPath(key).suffix.lower()


def _nothing_matched(photos: Path, masks: Path, photo: Path, mask_files: list[Path]) -> str:
    key = photo.relative_to(photos).as_posix()
    wanted = [printable(Path(name)) for name in (f"{key}.png", f"{_without_suffix(key)}.png")]
    lossy = [path for path in mask_files if path.suffix.lower() not in MASK_SUFFIXES]
    if mask_files and len(lossy) == len(mask_files):
        hint = f" It holds {lossy[0].suffix} files only; masks must be PNG, TIFF, BMP or GIF."
    elif mask_files:
        hint = f" It holds {printable(mask_files[0].relative_to(masks))}, for example."
    else:
        hint = " It holds no image at all."
    return (
        f"no photo in {printable(photos)} has a mask in {printable(masks)}: for "
        f"{printable(Path(key))} looked for {' and '.join(wanted)}.{hint}"
    )


def _no_target(targets: Sequence[MaskClass], count: int, pixels: PixelCounts) -> str:
    names = " or ".join(f"{c.name} (id {c.id})" for c in targets)
    held = ", ".join(f"{number} px {name}" for name, number in pixels.by_class if number)
    return (
        f"no mask holds the target class {names}: {count} masks were read, they hold "
        f"{held or 'unlabelled pixels only'}. Mark some, or choose another class with --target."
    )
