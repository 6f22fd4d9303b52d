"""CVAT for images 1.1 (XML)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from finicky.classes import UNLABELLED, ClassTable
from finicky.data.formats import runs, shapes
from finicky.data.formats.common import box, class_regions, ellipse, single_file, turned
from finicky.data.formats.record import Annotated, ExchangeOptions, PhotoIndex, class_named
from finicky.errors import DataError
from finicky.files import write_bytes


def read_cvat(
    source: Path, photos: PhotoIndex, classes: ClassTable, options: ExchangeOptions
) -> Iterator[Annotated]:
    """CVAT for images 1.1: masks and shapes that have an area, in order of ``z_order``."""
    path = single_file(source, "*.xml")
    content = path.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:  # could unpack to gigabytes
        raise DataError(f"{path.name} declares entities, which CVAT never does")
    try:
        tree = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"{path.name} is not valid XML: {error}") from error
    for image in tree.iter("image"):
        key = photos.find(image.attrib["name"])
        photos.check(key, (int(image.attrib["height"]), int(image.attrib["width"])))
        ids = photos.blank(key, options.unmarked or UNLABELLED)
        for shape in sorted(image, key=lambda s: int(s.attrib.get("z_order", 0))):
            if shape.tag != "tag":  # says something about the whole photo
                ids[_cvat_area(shape, *ids.shape)] = class_named(shape.attrib["label"], classes).id
        yield Annotated(key, ids)


def _cvat_area(shape: ElementTree.Element, height: int, width: int) -> np.ndarray:
    if shape.tag == "mask":
        return _mask_area(shape.attrib, height, width)
    ring = turned(_ring(shape), float(shape.attrib.get("rotation", 0)))
    return shapes.fill([ring], height, width)


def _ring(shape: ElementTree.Element) -> np.ndarray:
    value = shape.attrib
    if shape.tag == "polygon":
        return np.array([point.split(",") for point in value["points"].split(";")], float)
    if shape.tag == "box":
        first, last = ([value["xtl"], value["ytl"]], [value["xbr"], value["ybr"]])
        return box(np.array(first, float), np.array(last, float))
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (float(value[name]) for name in ("cx", "cy", "rx", "ry"))
        return ellipse(np.array([cx, cy]), (rx, ry))
    raise DataError(f"CVAT shapes of type {shape.tag!r} have no area; delete or redraw them")


def _mask_area(value: dict[str, str], height: int, width: int) -> np.ndarray:
    x, y, w, h = (int(value[side]) for side in ("left", "top", "width", "height"))
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > width or y + h > height:
        raise DataError("a CVAT mask leaves its photo")
    area = np.zeros((height, width), bool)
    lengths = [int(length) for length in value["rle"].split(",")]
    area[y : y + h, x : x + w] = runs.from_run_lengths(lengths, w * h).reshape(h, w)
    return area


def write_cvat(
    masks: Sequence[Annotated], out: Path, classes: ClassTable, options: ExchangeOptions
) -> None:
    """``annotations.xml`` of CVAT for images 1.1, one mask for each connected region."""
    del options
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    for number, mask in enumerate(masks):
        height, width = mask.ids.shape
        facts = {"id": str(number), "name": mask.key, "width": str(width), "height": str(height)}
        image = ElementTree.SubElement(root, "image", facts)
        for entry, part, x, y in class_regions(mask.ids, classes):
            ElementTree.SubElement(
                image,
                "mask",
                label=entry.name,
                source="manual",
                occluded="0",
                rle=", ".join(map(str, runs.run_lengths(part))),
                left=str(x),
                top=str(y),
                width=str(part.shape[1]),
                height=str(part.shape[0]),
                z_order="0",
            )
    write_bytes(out / "annotations.xml", ElementTree.tostring(root, "utf-8", xml_declaration=True))
