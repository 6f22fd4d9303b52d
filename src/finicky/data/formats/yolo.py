"""YOLO-seg text files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from finicky.classes import UNLABELLED, ClassTable
from finicky.data.formats import shapes
from finicky.data.formats.common import class_regions, one_ring, source_files
from finicky.data.formats.record import Annotated, ExchangeOptions, PhotoIndex, class_named
from finicky.errors import DataError
from finicky.files import write_text


def read_yolo(
    source: Path, photos: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> Iterator[Annotated]:
    """YOLO-seg: a ``.txt`` a photo; a ``.yaml`` names the classes, else ours in order."""
    names = _yolo_names(source, classes)
    for path, name in _label_files(source):
        key = photos.find(name)
        ids = photos.blank(key, options.unmarked or UNLABELLED)
        height, width = ids.shape
        for line in path.read_text("utf-8").splitlines():
            numbers = line.split()
            try:
                entry = class_named(names[int(numbers[0])], classes)
                ring = np.array(numbers[1:], float).reshape(-1, 2) * (width, height)
            except (ValueError, IndexError, KeyError) as error:
                raise DataError(f"{path.name}: {line[:60]!r} is no YOLO polygon") from error
            if len(ring) < 3:
                raise DataError(f"{path.name} holds boxes, not outlines: {line[:60]!r}")
            ids[shapes.fill([ring], height, width)] = entry.id
        yield Annotated(key, ids)


def _label_files(source: Path) -> Iterator[tuple[Path, str]]:
    """Each file with the name of its photo. Where some lie in a folder ``labels``, only those:
    lists of photos and notes lie beside it."""
    files = source_files(source, "*.txt")
    inside = [path for path in files if "labels" in path.relative_to(source).parts[:-1]]
    for path in inside or [path for path in files if path.name != "classes.txt"]:
        name = path.relative_to(source).with_suffix("").as_posix()
        yield path, name.rpartition("labels/")[2] if inside else name


def _yolo_names(source: Path, classes: ClassTable) -> dict[int, str]:
    files = sorted(source.glob("*.y*ml")) if source.is_dir() else []
    text = next((t for path in files if "names:" in (t := path.read_text("utf-8"))), "")
    if not text:
        return {number: entry.name for number, entry in enumerate(classes)}
    listed = re.search(r"^names:\s*\[(.*?)\]", text, re.M | re.S)
    if listed:
        return {i: n.strip().strip("'\"") for i, n in enumerate(listed[1].split(","))}
    braced = re.search(r"^names:\s*\{(.*?)\}", text, re.M | re.S)
    if braced:
        text = "".join(f"  {entry.strip()}\n" for entry in braced[1].split(","))
    lines = re.findall(r"^\s+(\d+):\s*['\"]?([^'\"\n]+?)['\"]?\s*$", text, re.M)
    dashes = re.findall(r"^\s*-\s*['\"]?([^'\"\n]+?)['\"]?\s*$", text, re.M)
    return {int(number): name for number, name in lines} or dict(enumerate(dashes))


def write_yolo(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """``labels/<photo>.txt`` and ``data.yaml``; holes are joined to outlines by bridges."""
    for mask in masks:
        height, width = mask.ids.shape
        lines = []
        for entry, part, x, y in class_regions(mask.ids, classes):
            ring = one_ring(part, x, y, options) / (width, height)
            number = list(classes).index(entry)
            lines.append(f"{number} " + " ".join(f"{side:.7g}" for side in ring.ravel()))
        path = out / "labels" / PurePosixPath(mask.key).with_suffix(".txt")
        write_text(path, "".join(f"{line}\n" for line in lines))
    names = "".join(f"  {number}: {entry.name}\n" for number, entry in enumerate(classes))
    write_text(out / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}")
