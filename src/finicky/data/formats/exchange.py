"""Whole imports and exports: nothing is written over silently, and what is lost is said."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from finicky.classes import UNLABELLED, ClassTable
from finicky.data.formats import coco, cvat, label_studio, labelme, rasters, yolo
from finicky.data.formats.archives import unpacked
from finicky.data.formats.record import (
    Annotated,
    ExchangeOptions,
    PhotoIndex,
    Reader,
    Writer,
)
from finicky.data.pairs import find_pairs
from finicky.errors import DataError, FinickyError, ImageError, UsageError, nearest_names
from finicky.files import write_bytes
from finicky.images import MAX_LABELLED_PIXELS, image_size, list_images
from finicky.masks import PixelCounts, count_pixels, read_mask, write_mask

_DEFAULTS = ExchangeOptions()

OnExisting = Literal["refuse", "keep", "merge", "replace"]


@dataclass(frozen=True)
class Format:
    """One format: what it is, how it is read, how it is written."""

    summary: str
    read: Reader
    write: Writer


FORMATS: Mapping[str, Format] = {
    "index-png": Format("PNGs of class ids (ours)", rasters.read_indexed, rasters.write_indexed),
    "binary-png": Format("PNGs of 0 and 255", rasters.read_indexed, rasters.write_binary),
    "crackforest": Format(
        "CrackForest .mat files", rasters.read_crackforest, rasters.write_crackforest
    ),
    "voc": Format("Pascal VOC segmentation", rasters.read_voc, rasters.write_voc),
    "cvat-mask": Format(
        "CVAT segmentation mask 1.1, folder or zip", rasters.read_voc, rasters.write_cvat_masks
    ),
    "cvat-xml": Format("CVAT for images 1.1", cvat.read_cvat, cvat.write_cvat),
    "labelme": Format(
        "labelme and X-AnyLabeling JSON", labelme.read_labelme, labelme.write_labelme
    ),
    "coco": Format("COCO instances JSON", coco.read_coco, coco.write_coco),
    "label-studio": Format(
        "Label Studio JSON", label_studio.read_label_studio, label_studio.write_label_studio
    ),
    "yolo": Format("YOLO-seg text files", yolo.read_yolo, yolo.write_yolo),
    "original": Format("the 2021 method's folders", rasters.read_original, rasters.write_original),
}


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or would do.

    Attributes:
        written: Keys of photos whose mask was (or would be) written.
        kept: Keys of photos whose mask was there and was left as it is.
        replaced: Keys of photos whose earlier mask was changed; it is in ``backup``.
        pixels: What the imported masks hold.
        backup: Folder with the earlier masks; ``None`` if there were none.
        dry_run: Whether nothing was written.
    """

    written: tuple[str, ...]
    kept: tuple[str, ...]
    replaced: tuple[str, ...]
    pixels: PixelCounts
    backup: Path | None
    dry_run: bool


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote, and how much of each class another import would give back.

    ``round_trip``: class name and IoU in [0, 1], pooled over all photos; 1 is without loss.
    """

    photos: int
    round_trip: tuple[tuple[str, float], ...]


def import_masks(
    source: Path,
    name: str,
    *,
    photos: Path,
    masks: Path,
    backups: Path,
    classes: ClassTable,
    options: ExchangeOptions = _DEFAULTS,
    on_existing: OnExisting = "refuse",
    dry_run: bool = False,
) -> ImportReport:
    """Read another tool's masks and write them as ours; all of it is read before any is written.

    Args:
        source: File or folder.
        name: One of `FORMATS`.
        photos: Folder of the photos that the masks belong to.
        masks: Where masks are written, each as ``<key>.png``.
        backups: Where masks that are replaced are kept, in a folder of their own.
        classes: Their names must be those of the file.
        options: How the format is understood.
        on_existing: What happens to photos that have a mask: ``refuse`` the import, ``keep`` the
            mask, ``merge`` (the import fills what is unlabelled) or ``replace`` it.
        dry_run: Only look.

    Raises:
        UsageError: Unknown format, or a photo has a mask already and ``on_existing`` is refuse.
        DataError: The source is damaged, or does not fit the photos or the classes.
    """
    form = _format(name)
    if on_existing not in get_args(OnExisting):
        raise UsageError(f"on_existing must be one of {get_args(OnExisting)}, got {on_existing!r}")
    index = _index(photos)
    found = _read_all(form, Path(source), index, classes, options)
    here = _existing(photos, masks)
    taken = [mask.key for mask in found if mask.key in here]
    if taken and on_existing == "refuse":
        raise UsageError(
            f"{len(taken)} of {len(found)} photos have a mask already, {taken[0]} for example: "
            "choose keep, merge or replace (the earlier masks are backed up)"
        )
    chosen = [mask for mask in found if on_existing != "keep" or mask.key not in here]
    merged = [_merged(mask, here, index, classes, on_existing) for mask in chosen]
    replacing = any(mask.key in here for mask in chosen)
    backup = backups / time.strftime("%Y%m%d-%H%M%S") if replacing else None
    if not dry_run:
        for mask in merged:
            _store(mask, here.get(mask.key), masks, backup, classes)
    pixels = PixelCounts(tuple((c.name, 0) for c in classes))
    for mask in found:
        pixels += count_pixels(mask.ids, classes)
    return ImportReport(
        written=tuple(mask.key for mask in merged),
        kept=tuple(key for key in taken if on_existing == "keep"),
        replaced=tuple(mask.key for mask in merged if mask.key in here),
        pixels=pixels,
        backup=backup,
        dry_run=dry_run,
    )


def export_masks(
    out: Path,
    name: str,
    *,
    photos: Path,
    masks: Path,
    classes: ClassTable,
    options: ExchangeOptions = _DEFAULTS,
) -> ExportReport:
    """Write all masks of a project for another tool, then read them back and compare.

    Args:
        out: A folder that is new or empty.
        name: One of `FORMATS`.
        photos: Folder of photos.
        masks: Folder of their masks.
        classes: What the ids mean.
        options: How the format is written.

    Raises:
        UsageError: Unknown format, or ``out`` is not empty.
        DataError: There are no masks, or one cannot be read.
    """
    form = _format(name)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty; give a new folder")
    pairs = find_pairs(photos, masks).pairs
    most = MAX_LABELLED_PIXELS
    sizes = {pair.key: image_size(pair.photo, max_pixels=most) for pair in pairs}
    found = [
        Annotated(p.key, read_mask(p.mask, classes, size=sizes[p.key], max_pixels=most))
        for p in pairs
    ]
    _refuse_same_stems(found, name)
    out.mkdir(parents=True, exist_ok=True)
    form.write(found, out, classes, options)
    again = _read_all(form, out, PhotoIndex(sizes), classes, replace(options, unmarked=None))
    back = {mask.key: mask.ids for mask in again}
    return ExportReport(len(found), tuple(_overlap(found, back, classes)))


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UsageError(f"no format named {name!r}. {nearest_names(name, FORMATS)}")
    return FORMATS[name]


def _index(photos: Path) -> PhotoIndex:
    sizes, problems = {}, {}
    for path in list_images(photos):
        key = path.relative_to(photos).as_posix()
        try:
            sizes[key] = image_size(path, max_pixels=MAX_LABELLED_PIXELS)
        except ImageError as error:  # matters only if there is a mask for it
            problems[key] = str(error)
    return PhotoIndex(sizes, problems=problems)


def _read_all(
    form: Format, source: Path, index: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> list[Annotated]:
    if not source.exists():
        raise UsageError(f"{source} does not exist")
    try:
        with unpacked(source) as place:
            found = list(form.read(place, index, classes, options))
    except FinickyError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{source.name} is not of this format, or damaged: {error!r}") from error
    seen = set()
    for mask in found:
        if mask.key in seen:
            raise DataError(f"{source.name} holds two masks of {mask.key}")
        seen.add(mask.key)
    if not found:
        raise DataError(f"{source.name} holds no mask")
    return found


def _existing(photos: Path, masks: Path) -> dict[str, Path]:
    if not masks.is_dir() or not list_images(masks, allow_empty=True):
        return {}
    try:
        return {pair.key: pair.mask for pair in find_pairs(photos, masks).pairs}
    except DataError:  # masks, but of no photo here
        return {}


def _merged(
    mask: Annotated,
    here: Mapping[str, Path],
    index: PhotoIndex,
    classes: ClassTable,
    on_existing: OnExisting,
) -> Annotated:
    if on_existing != "merge" or mask.key not in here:
        return mask
    size = index.sizes[mask.key]
    own = read_mask(here[mask.key], classes, size=size, max_pixels=MAX_LABELLED_PIXELS)
    return Annotated(mask.key, np.where(own == UNLABELLED, mask.ids, own))


def _store(
    mask: Annotated, earlier: Path | None, masks: Path, backup: Path | None, classes: ClassTable
) -> None:
    target = masks / f"{mask.key}.png"
    if earlier is not None:
        assert backup is not None  # chosen whenever a mask is replaced
        write_bytes(backup / earlier.relative_to(masks), earlier.read_bytes())
    write_mask(target, mask.ids, classes)
    if earlier is not None and earlier != target:
        earlier.unlink()  # it would be a second mask of the photo; its copy is in the backup


def _refuse_same_stems(found: Iterable[Annotated], name: str) -> None:
    if name in ("index-png", "binary-png", "coco", "label-studio", "cvat-xml"):
        return
    seen: dict[str, str] = {}
    for mask in found:
        stem = mask.key.rsplit(".", 1)[0]
        stem = stem.rsplit("/", 1)[-1] if name == "original" else stem
        if stem in seen:
            raise DataError(
                f"{mask.key} and {seen[stem]} would be one file in this format, which drops "
                "suffixes: rename one of the photos"
            )
        seen[stem] = mask.key


def _overlap(
    found: Sequence[Annotated], back: Mapping[str, np.ndarray], classes: ClassTable
) -> Iterable[tuple[str, float]]:
    for entry in classes:
        both = either = 0
        for mask in found:
            own = mask.ids == entry.id
            other = back[mask.key] == entry.id if mask.key in back else np.zeros_like(own)
            both += int((own & other).sum())
            either += int((own | other).sum())
        if either:
            yield entry.name, both / either
