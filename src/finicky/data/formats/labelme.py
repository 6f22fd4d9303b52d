"""labelme and X-AnyLabeling JSON."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from finicky.classes import UNLABELLED, ClassTable
from finicky.data.formats import shapes
from finicky.data.formats.common import box, class_regions, ellipse, json_object, source_files
from finicky.data.formats.record import Annotated, ExchangeOptions, PhotoIndex, class_named
from finicky.errors import DataError
from finicky.files import read_json, write_json
from finicky.images import MAX_LABELLED_PIXELS


def read_labelme(
    source: Path, photos: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> Iterator[Annotated]:
    """labelme's and X-AnyLabeling's JSON: polygons, rectangles, circles and masks, in order."""
    for path in source_files(source, "*.json"):
        value = json_object(path, read_json(path))
        if "shapes" not in value:
            raise DataError(f"{path.name} is no labelme file: it has no shapes")
        key = photos.find(_without_ups(str(value.get("imagePath") or path.stem)))
        photos.check(key, (int(value["imageHeight"]), int(value["imageWidth"])))
        ids = photos.blank(key, options.unmarked or UNLABELLED)
        for shape in value["shapes"]:
            _paint_labelme(ids, shape, class_named(str(shape["label"]), classes).id, path)
        yield Annotated(key, ids)


# ``rotation`` is X-AnyLabeling's turned box, with all four corners.
_RINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "polygon": lambda points: points,
    "rotation": lambda points: points,
    "rectangle": lambda points: box(*points) if len(points) == 2 else points,
    "circle": lambda points: ellipse(points[0], (np.hypot(*(points[1] - points[0])),) * 2),
}


def _without_ups(name: str) -> str:
    """labelme names a photo from the JSON's folder: ``../photos/a.jpg``. Names are looked up in
    the project's list, never opened."""
    plain = name.replace("\\", "/")
    while plain.startswith("../"):
        plain = plain[3:]
    return plain


def _paint_labelme(ids: np.ndarray, shape: dict[str, Any], value: int, path: Path) -> None:
    kind, points = shape.get("shape_type", "polygon"), np.array(shape["points"], float)
    if kind == "mask":
        part = _png_mask(str(shape["mask"]), path)
        x, y = (int(side) for side in points[0])
        if x < 0 or y < 0 or y + part.shape[0] > ids.shape[0] or x + part.shape[1] > ids.shape[1]:
            raise DataError(f"{path.name}: a mask leaves the photo")
        ids[y : y + part.shape[0], x : x + part.shape[1]][part] = value
    elif kind in _RINGS:
        ids[shapes.fill([_RINGS[kind](points)], *ids.shape)] = value
    else:
        raise DataError(f"{path.name}: shapes of type {kind!r} have no area; delete or redraw them")


def _png_mask(text: str, path: Path) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as part:
            if part.width * part.height > MAX_LABELLED_PIXELS:
                raise DataError(f"{path.name}: a mask is too large")
            return np.asarray(part.convert("L")) > 0
    except (binascii.Error, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path.name}: a mask is damaged") from error


def write_labelme(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """One JSON a photo, one mask shape for each connected region."""
    del options
    for mask in masks:
        height, width = mask.ids.shape
        found: list[dict[str, Any]] = [
            {
                "label": entry.name,
                "points": [[x, y], [x + part.shape[1] - 1, y + part.shape[0] - 1]],
                "group_id": None,
                "description": "",
                "shape_type": "mask",
                "flags": {},
                "mask": _mask_png(part),
            }
            for entry, part, x, y in class_regions(mask.ids, classes)
        ]
        path = out / PurePosixPath(mask.key).with_suffix(".json")
        write_json(
            path,
            {
                "version": "5.5.0",
                "flags": {},
                "shapes": found,
                "imagePath": mask.key,
                "imageData": None,
                "imageHeight": height,
                "imageWidth": width,
            },
        )


def _mask_png(part: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(part).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")
