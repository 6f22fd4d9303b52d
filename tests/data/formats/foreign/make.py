"""Writes the files of this folder with other tools' own code; their licences allow what they make.

In a virtual environment of its own, because Finicky needs none of these packages:

    pip install pycocotools==2.0.11 label-studio-sdk==2.1.2 cvat-sdk==2.80.0 pillow numpy
    python make.py                 # writes the files beside it
    python make.py --check FOLDER  # reads exports of Finicky: FOLDER/{coco,label-studio,cvat-xml}

The mask: a closed loop and a crossing of class 1, a block of class 2, scattered pixels of class 3.
"""

from __future__ import annotations

import argparse
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
NAMES = {1: "crack", 2: "pore", 3: "dirt"}


def ids() -> np.ndarray:
    found = np.zeros((48, 64), np.uint8)
    found[5:40, 10:12] = found[5:40, 40:42] = found[5:7, 10:42] = found[38:40, 10:42] = 1
    found[20, 3:60] = found[0:48, 25] = 1
    found[12:17, 14:22] = 2
    rng = np.random.default_rng(5)
    found[(rng.random(found.shape) < 0.2) & (found == 0)] = 3
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", type=Path)
    folder = parser.parse_args().check
    if folder is None:
        Image.fromarray(ids()).save(HERE / "expected.png")
        write_coco(ids())
        write_label_studio(ids())
        write_cvat(ids())
    else:
        for read in (read_coco, read_label_studio, read_cvat):  # raises where one differs
            np.testing.assert_array_equal(read(folder), ids())


def write_coco(found: np.ndarray) -> None:
    from pycocotools import mask as coco

    annotations = []
    for number, name in NAMES.items():
        del name
        packed = coco.encode(np.asfortranarray(found == number))
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": number,
                "area": int(coco.area(packed)),
                "bbox": coco.toBbox(packed).tolist(),
                "iscrowd": 0,
                "segmentation": {"size": packed["size"], "counts": packed["counts"].decode()},
            }
        )
    value = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "categories": [{"id": n, "name": name} for n, name in NAMES.items()],
        "annotations": annotations,
    }
    (HERE / "coco.json").write_text(json.dumps(value) + "\n")


def read_coco(folder: Path) -> np.ndarray:
    from pycocotools.coco import COCO

    opened = COCO(str(folder / "coco" / "instances.json"))
    out = np.zeros((48, 64), np.uint8)
    for annotation in opened.loadAnns(opened.getAnnIds()):
        out[opened.annToMask(annotation) > 0] = annotation["category_id"]
    return out


def write_label_studio(found: np.ndarray) -> None:
    from label_studio_sdk.converter import brush

    results = [
        {
            "id": name,
            "type": "brushlabels",
            "from_name": "tag",
            "to_name": "image",
            "image_rotation": 0,
            "original_width": 64,
            "original_height": 48,
            "value": {
                "format": "rle",
                "rle": brush.mask2rle((found == number).astype(np.uint8) * 255),
                "brushlabels": [name],
            },
        }
        for number, name in NAMES.items()
    ]
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/0123abcd-a.jpg"},
        "annotations": [{"id": 1, "result": results}],
    }
    (HERE / "label_studio.json").write_text(json.dumps([task]) + "\n")


def read_label_studio(folder: Path) -> np.ndarray:
    from label_studio_sdk.converter import brush

    (task,) = json.loads((folder / "label-studio" / "tasks.json").read_text())
    out = np.zeros((48, 64), np.uint8)
    for result in task["predictions"][0]["result"]:
        flat = brush.decode_rle(result["value"]["rle"])
        name = result["value"]["brushlabels"][0]
        number = next(n for n, known in NAMES.items() if known == name)
        out[flat.reshape(48, 64, 4)[..., 3] > 0] = number
    return out


def write_cvat(found: np.ndarray) -> None:
    from cvat_sdk.masks import encode_mask

    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    image = ET.SubElement(root, "image", id="0", name="a.jpg", width="64", height="48")
    for number, name in NAMES.items():
        *lengths, left, top, right, bottom = (int(v) for v in encode_mask(found == number))
        ET.SubElement(
            image,
            "mask",
            label=name,
            source="manual",
            occluded="0",
            rle=", ".join(map(str, lengths)),
            left=str(left),
            top=str(top),
            width=str(right - left + 1),
            height=str(bottom - top + 1),
            z_order="0",
        )
    ET.ElementTree(root).write(HERE / "cvat.xml", encoding="utf-8", xml_declaration=True)


def read_cvat(folder: Path) -> np.ndarray:
    from cvat_sdk.masks import decode_mask

    out = np.zeros((48, 64), np.uint8)
    for mask in ET.parse(folder / "cvat-xml" / "annotations.xml").getroot().iter("mask"):
        left, top, width, height = (int(mask.attrib[k]) for k in ("left", "top", "width", "height"))
        lengths = [int(v) for v in mask.attrib["rle"].split(",")]
        box = [left, top, left + width - 1, top + height - 1]
        area = decode_mask([*lengths, *box], image_width=64, image_height=48)
        out[area > 0] = next(n for n, known in NAMES.items() if known == mask.attrib["label"])
    return out


if __name__ == "__main__":
    main()
