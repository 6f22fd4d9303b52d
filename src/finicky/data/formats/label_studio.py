"""Label Studio JSON, with brush runs and polygons."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote

import numpy as np

from finicky.classes import UNLABELLED, ClassTable
from finicky.data.formats import runs, shapes
from finicky.data.formats.common import single_file
from finicky.data.formats.record import Annotated, ExchangeOptions, PhotoIndex, class_named
from finicky.errors import DataError
from finicky.files import read_json, write_bytes


def read_label_studio(
    source: Path, photos: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> Iterator[Annotated]:
    """Label Studio's JSON: brush and polygon labels of each task's last annotation."""
    tasks = read_json(single_file(source, "*.json"))
    if not isinstance(tasks, list):
        raise DataError(f"{source.name} is no Label Studio export: expected a list of tasks")
    for task in tasks:
        key = photos.find(_photo_name(task["data"], photos))
        ids = photos.blank(key, options.unmarked or UNLABELLED)
        given = [one for one in task.get("annotations", []) if not one.get("was_cancelled")]
        answers = given or task.get("predictions") or [{"result": []}]
        for result in answers[-1]["result"]:
            _paint_label_studio(ids, key, result, photos, classes)
        yield Annotated(key, ids)


def _photo_name(data: dict[str, Any], photos: PhotoIndex) -> str:
    """The photo that a task is about, under the name that it has here.

    Local files are named in a query, ``/data/local-files/?d=<path>``. Uploads are renamed to
    ``/data/upload/<n>/<8 digits>-<name>``, in which spaces are ``_`` and other signs are gone.
    """
    link = str(data.get("image") or next(iter(data.values())))
    path, _, query = link.partition("?")
    name = unquote(parse_qs(query).get("d", [path])[0])
    inside = {name, name.lstrip("/")} & set(photos.sizes)
    last = re.sub(r"^[0-9a-f]{8}-", "", PurePosixPath(name).name)
    if inside or photos.knows(last):
        return inside.pop() if inside else last
    tidy = [key for key in photos.sizes if _as_uploaded(PurePosixPath(key).name) == last]
    return tidy[0] if len(tidy) == 1 else last


def _as_uploaded(name: str) -> str:
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _paint_label_studio(
    ids: np.ndarray, key: str, result: dict[str, Any], photos: PhotoIndex, classes: ClassTable
) -> None:
    value, kind = result["value"], result["type"]
    if kind not in ("brushlabels", "polygonlabels"):
        return  # choices, texts and boxes mark no pixels
    photos.check(key, (int(result["original_height"]), int(result["original_width"])))
    entry = class_named(str(value[kind][0]), classes)
    if kind == "brushlabels":
        ids[runs.brush_mask(value["rle"], *ids.shape)] = entry.id
    else:
        ring = np.array(value["points"], float) * (ids.shape[1] / 100, ids.shape[0] / 100)
        ids[shapes.fill([ring], *ids.shape)] = entry.id


def write_label_studio(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """``tasks.json`` with predictions, to be imported as pre-annotations."""
    del options
    tasks = []
    for number, mask in enumerate(masks, start=1):
        height, width = mask.ids.shape
        results = [
            {
                "id": f"{number}-{entry.id}",
                "type": "brushlabels",
                "from_name": "tag",
                "to_name": "image",
                "image_rotation": 0,
                "original_width": width,
                "original_height": height,
                "value": {
                    "format": "rle",
                    "rle": runs.brush_bytes(mask.ids == entry.id),
                    "brushlabels": [entry.name],
                },
            }
            for entry in classes
            if (mask.ids == entry.id).any()
        ]
        prediction = {"model_version": "finicky", "result": results}
        tasks.append({"data": {"image": mask.key}, "predictions": [prediction]})
    # Not indented: every byte of a run would take a line.
    write_bytes(out / "tasks.json", json.dumps(tasks, ensure_ascii=False).encode("utf-8"))
