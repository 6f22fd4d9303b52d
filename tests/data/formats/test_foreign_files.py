"""Masks as other tools' own code writes them: pycocotools, Label Studio's and CVAT's packages.

``foreign/make.py`` wrote the files and read our exports back with the same packages.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finicky.classes import DEFAULT_CLASSES as CLASSES
from finicky.data.formats import export_masks, import_masks
from finicky.masks import read_mask, write_mask

FOREIGN = Path(__file__).parent / "foreign"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48), (90, 90, 90)).save(tmp_path / "photos" / "a.jpg")
    return tmp_path


def _expected() -> np.ndarray:
    with Image.open(FOREIGN / "expected.png") as image:
        return np.array(image)


def _imported(project: Path, source: Path, name: str) -> np.ndarray:
    import_masks(
        source,
        name,
        photos=project / "photos",
        masks=project / "masks",
        backups=project / "backups",
        classes=CLASSES,
    )
    return read_mask(project / "masks" / "a.jpg.png", CLASSES)


@pytest.mark.parametrize(
    ("file", "name"),
    [("coco.json", "coco"), ("label_studio.json", "label-studio"), ("cvat.xml", "cvat-xml")],
)
def test_what_other_tools_write_is_read_to_the_pixel(project: Path, file: str, name: str) -> None:
    np.testing.assert_array_equal(_imported(project, FOREIGN / file, name), _expected())


def test_our_coco_runs_are_those_of_pycocotools(project: Path) -> None:
    """A mask of one region: the same string as theirs."""
    ids = np.where(_expected() == 1, 1, 0).astype(np.uint8)
    (project / "masks").mkdir()
    write_mask(project / "masks" / "a.jpg.png", ids, CLASSES)
    export_masks(
        project / "out",
        "coco",
        photos=project / "photos",
        masks=project / "masks",
        classes=CLASSES,
    )
    (ours,) = json.loads((project / "out" / "instances.json").read_text())["annotations"]
    theirs = json.loads((FOREIGN / "coco.json").read_text())["annotations"][0]
    assert ours["segmentation"] == theirs["segmentation"]
    assert (ours["bbox"], ours["area"]) == (theirs["bbox"], theirs["area"])


def test_labelme_masks_are_read_as_labelme_documents_them(project: Path) -> None:
    """``points`` is the box with both corners inside, ``mask`` a PNG of the box in base64."""
    shapes = []
    for number, label in ((1, "crack"), (2, "pore"), (3, "dirt")):
        area = _expected() == number
        ys, xs = np.nonzero(area)
        box = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        stream = io.BytesIO()
        Image.fromarray(area[box].astype(np.uint8) * 255).save(stream, format="PNG")
        corners = [[xs.min(), ys.min()], [xs.max(), ys.max()]]
        shapes.append(
            {
                "label": label,
                "points": np.array(corners, float).tolist(),
                "group_id": None,
                "description": "",
                "shape_type": "mask",
                "flags": {},
                "mask": base64.b64encode(stream.getvalue()).decode(),
            }
        )
    value = {
        "version": "5.8.1", "flags": {}, "shapes": shapes, "imagePath": "..\\photos\\a.jpg",
        "imageData": None, "imageHeight": 48, "imageWidth": 64,
    }  # fmt: skip
    source = project / "a.json"
    source.write_text(json.dumps(value))
    np.testing.assert_array_equal(_imported(project, source, "labelme"), _expected())
