"""COCO instances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finicky.classes import UNLABELLED, ClassTable
from finicky.data.formats import runs, shapes
from finicky.data.formats.common import class_regions, json_object, one_ring, single_file
from finicky.data.formats.record import Annotated, ExchangeOptions, PhotoIndex, class_named
from finicky.files import read_json, write_json


def read_coco(
    source: Path, photos: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> Iterator[Annotated]:
    """COCO instances: polygons and runs, compressed or not; later annotations lie on top."""
    value = json_object(source, read_json(single_file(source, "*.json")))
    names = {entry["id"]: str(entry["name"]) for entry in value.get("categories", [])}
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in value.get("annotations", []):
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    for image in value.get("images", []):
        key = photos.find(str(image["file_name"]))
        photos.check(key, (int(image["height"]), int(image["width"])))
        ids = photos.blank(key, options.unmarked or UNLABELLED)
        for annotation in by_image.get(image["id"], []):
            name = names.get(annotation["category_id"], str(annotation["category_id"]))
            where = _coco_area(annotation["segmentation"], *ids.shape)
            ids[where] = class_named(name, classes).id
        yield Annotated(key, ids)


def _coco_area(segmentation: Any, height: int, width: int) -> np.ndarray:
    if isinstance(segmentation, dict):
        return runs.coco_mask(segmentation, height, width)
    area = np.zeros((height, width), bool)
    for flat in segmentation:  # COCO's parts of one object add up
        area |= shapes.fill([np.array(flat, float).reshape(-1, 2)], height, width)
    return area


def write_coco(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """``instances.json``, one annotation for each connected region."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, mask in enumerate(masks, start=1):
        height, width = mask.ids.shape
        images.append({"id": number, "file_name": mask.key, "width": width, "height": height})
        for entry, part, x, y in class_regions(mask.ids, classes):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": entry.id,
                    "bbox": [x, y, part.shape[1], part.shape[0]],
                    "area": int(part.sum()),
                    "iscrowd": 0,
                    "segmentation": _coco_segmentation(part, x, y, height, width, options),
                }
            )
    categories = [{"id": c.id, "name": c.name, "supercategory": c.role} for c in classes]
    write_json(
        out / "instances.json",
        {"images": images, "categories": categories, "annotations": annotations},
    )


def _coco_segmentation(
    part: np.ndarray, x: int, y: int, height: int, width: int, options: ExchangeOptions
) -> Any:
    if options.polygons:
        return [one_ring(part, x, y, options).ravel().tolist()]
    whole = np.zeros((height, width), bool)
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return {"size": [height, width], "counts": runs.coco_string(runs.coco_counts(whole))}
