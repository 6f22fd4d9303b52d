"""Formats that are images: indexed and binary PNG, CrackForest, VOC, CVAT, the original's."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from finicky.classes import UNLABELLED, ClassTable
from finicky.data.formats.legend import read_legend
from finicky.data.formats.record import (
    Annotated,
    ExchangeOptions,
    PhotoIndex,
    background_id,
    sole_target,
)
from finicky.errors import DataError
from finicky.files import write_bytes, write_text
from finicky.images import MAX_LABELLED_PIXELS, list_images
from finicky.masks import IGNORE, read_mask, target_mask, write_mask


def read_indexed(
    source: Path, photos: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> Iterator[Annotated]:
    """A folder of PNGs of class ids, or of binary masks of the only target."""
    for path in list_images(source):
        key = photos.find(_mask_name(path.relative_to(source).as_posix(), photos))
        ids = read_mask(path, classes, size=photos.sizes[key], max_pixels=MAX_LABELLED_PIXELS)
        if options.unmarked is not None:
            ids[ids == UNLABELLED] = options.unmarked
        yield Annotated(key, ids)


def write_indexed(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """A folder of indexed PNGs, each under its photo's key with ``.png`` added."""
    del options
    for mask in masks:
        write_mask(out / f"{mask.key}.png", mask.ids, classes)


def write_binary(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """A folder of greyscale PNGs: 255 where a target is, 0 elsewhere."""
    del options
    for mask in masks:
        values = target_mask(mask.ids, classes.targets()).astype(np.uint8) * 255
        write_bytes(out / f"{mask.key}.png", _png(Image.fromarray(values)))


def read_crackforest(
    source: Path, photos: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> Iterator[Annotated]:
    """CrackForest's ``.mat`` files: ``groundTruth.Segmentation``, 1 background, 2 crack."""
    from scipy.io import loadmat

    target, rest = sole_target(classes).id, options.unmarked or UNLABELLED
    for path in sorted(source.rglob("*.mat")):
        key = photos.find(path.relative_to(source).with_suffix("").as_posix())
        try:
            values = loadmat(path)["groundTruth"]["Segmentation"][0, 0]
        except Exception as error:  # damaged files raise nearly anything in scipy
            raise DataError(f"{path.name} is no CrackForest file: {error}") from error
        photos.check(key, values.shape)
        yield Annotated(key, np.where(values == 2, target, rest).astype(np.uint8))


def write_crackforest(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """One ``.mat`` a photo, as CrackForest has them."""
    from scipy.io import savemat

    del options
    for mask in masks:
        marked = target_mask(mask.ids, classes.targets())
        edges = marked & ~_inside(marked)
        truth = {"Segmentation": marked.astype(np.uint8) + 1, "Boundaries": edges.astype(np.uint8)}
        stream = io.BytesIO()
        savemat(stream, {"groundTruth": truth}, do_compression=True)
        write_bytes(out / PurePosixPath(mask.key).with_suffix(".mat"), stream.getvalue())


def read_voc(
    source: Path, photos: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> Iterator[Annotated]:
    """Pascal VOC, and CVAT's "Segmentation mask 1.1": a folder or a zip with ``labelmap.txt``.

    VOC's void (255) becomes unlabelled; its background (0) the class of that role, or what
    ``options.unmarked`` says.
    """
    masks = sorted(source.rglob("SegmentationClass/**/*.png"))
    if not masks:
        raise DataError(f"{source.name} holds no SegmentationClass/*.png")
    legend = read_legend(source, classes)
    rest = background_id(classes) if options.unmarked is None else options.unmarked
    for path in masks:
        name = path.relative_to(source).as_posix()
        key = photos.find(name.split("SegmentationClass/", 1)[1].removesuffix(".png"))
        with Image.open(path, formats=["PNG"]) as image:
            photos.check(key, (image.height, image.width))
            yield Annotated(key, legend.ids(image, rest, name))


def write_voc(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """Pascal VOC: indices in a palette PNG; unlabelled becomes void (255), background 0."""
    del options
    ground = background_id(classes)
    for mask in masks:
        values = mask.ids.copy()
        values[mask.ids == UNLABELLED] = IGNORE
        if ground:
            values[mask.ids == ground] = 0
        image = Image.fromarray(values)
        image.putpalette(_voc_palette(classes))
        stem = PurePosixPath(mask.key).with_suffix("")
        write_bytes(out / "SegmentationClass" / f"{stem}.png", _png(image))
    _write_lists(masks, out, ["background:0,0,0::", *_class_lines(classes, ground)])


def write_cvat_masks(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """CVAT's "Segmentation mask 1.1": colours; unlabelled and background both become black."""
    del options
    ground = background_id(classes)
    table = np.zeros((256, 3), np.uint8)
    for entry in classes:
        if entry.id != ground:
            table[entry.id] = _rgb(entry.color)
    for mask in masks:
        stem = PurePosixPath(mask.key).with_suffix("")
        image = Image.fromarray(table[mask.ids])
        write_bytes(out / "SegmentationClass" / f"{stem}.png", _png(image))
    _write_lists(masks, out, ["background:0,0,0::", *_class_lines(classes, ground)])


def read_original(
    source: Path, photos: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> Iterator[Annotated]:
    """The 2021 method's folders: ``Segmented/Crack/<same name as the photo>``, ids in grey."""
    places = (source / "Segmented" / "Crack", source / "Segmented", source)
    folder = next((place for place in places if place.is_dir()), source)
    yield from read_indexed(folder, photos, classes, options)


def write_original(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """``Segmented/Crack/<stem>.png``, ids in grey; the photos belong beside it as PNG."""
    del options, classes
    for mask in masks:
        name = f"{PurePosixPath(mask.key).stem}.png"
        write_bytes(out / "Segmented" / "Crack" / name, _png(Image.fromarray(mask.ids)))


def _mask_name(name: str, photos: PhotoIndex) -> str:
    """The photo's name in a mask's: ``a.jpg.png`` belongs to ``a.jpg``."""
    inner = name[: name.rfind(".")]
    return inner if inner in photos.sizes else name


def _inside(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color.removeprefix("#")))


def _voc_palette(classes: ClassTable) -> bytes:
    colors = bytearray(256 * 3)
    for entry, color in [*((c.id, c.color) for c in classes), (IGNORE, "#E0E0C0")]:
        colors[3 * entry : 3 * entry + 3] = bytes(_rgb(color))
    return bytes(colors)


def _class_lines(classes: ClassTable, ground: int) -> list[str]:
    return [f"{c.name}:{','.join(map(str, _rgb(c.color)))}::" for c in classes if c.id != ground]


def _write_lists(masks: Sequence[Annotated], out: Path, lines: list[str]) -> None:
    write_text(out / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n")
    stems = [str(PurePosixPath(mask.key).with_suffix("")) for mask in masks]
    write_text(out / "ImageSets" / "Segmentation" / "default.txt", "\n".join(stems) + "\n")
