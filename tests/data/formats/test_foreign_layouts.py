"""Exports as they really lie there: zipped, nested, under other names."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from finicky.classes import DEFAULT_CLASSES as CLASSES
from finicky.data.formats import FORMATS, export_masks, import_masks
from finicky.data.formats.runs import brush_bytes
from finicky.errors import DataError
from finicky.masks import read_mask, write_mask

WIDTH, HEIGHT = 64, 48
KEY = "Łódź 3/most (1) ą.jpg"
SQUARE = [[2, 2], [6, 2], [6, 5], [2, 5]]  # 12 px


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for key in (KEY, "b.jpg"):
        path = tmp_path / "photos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(path)
    return tmp_path


def _import(project: Path, source: Path, name: str, key: str = KEY) -> np.ndarray:
    folders = {name: project / name for name in ("photos", "masks", "backups")}
    import_masks(source, name, classes=CLASSES, **folders)
    return read_mask(project / "masks" / f"{key}.png", CLASSES)


def _packed(project: Path, files: dict[str, bytes | str]) -> Path:
    path = project / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _ids() -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[5:30, 8:11] = ids[5:8, 8:40] = 1
    ids[20:24, 30:36], ids[40:44, 2:9] = 2, 3
    return ids


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_is_read_from_a_zip(project: Path, name: str) -> None:
    write_mask(project / "mine" / f"{KEY}.png", _ids(), CLASSES)
    out = project / "out"
    photos, mine = project / "photos", project / "mine"
    export_masks(out, name, photos=photos, masks=mine, classes=CLASSES)
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    packed = _packed(project, {**files, "__MACOSX/._a.json": b"\0\5", "photos/b.jpg": b"a photo"})
    np.testing.assert_array_equal(_import(project, packed, name) == 1, _ids() == 1)


def test_a_damaged_zip_is_refused(project: Path) -> None:
    packed = _packed(project, {"annotations.xml": "<annotations/>" * 500})
    packed.write_bytes(packed.read_bytes().replace(b"<annotations", b"<annotatioms", 3))
    with pytest.raises(DataError, match=r"export\.zip cannot be unpacked"):
        _import(project, packed, "cvat-xml")


# CVAT ---------------------------------------------------------------------------------------


def _cvat(shape: str) -> str:
    head = f'<annotations><image id="0" name="b.jpg" width="{WIDTH}" height="{HEIGHT}">'
    return f"{head}{shape}</image></annotations>"


def test_cvat_ellipses_and_turned_boxes_are_read(project: Path) -> None:
    shapes = (
        '<ellipse label="pore" cx="30" cy="20" rx="10" ry="5" z_order="0"/>'
        '<box label="crack" xtl="10" ytl="29" xbr="20" ybr="31" rotation="90.0" z_order="1"/>'
    )
    ids = _import(
        project, _packed(project, {"annotations.xml": _cvat(shapes)}), "cvat-xml", "b.jpg"
    )
    box = np.zeros_like(ids, bool)
    box[25:35, 14:16] = True  # 10 x 2 px, stood up on its middle at (15, 30)
    np.testing.assert_array_equal(ids == 1, box)
    assert abs((ids == 2).sum() - np.pi * 50) < 4


@pytest.mark.parametrize("kind", ["polyline", "points", "skeleton"])
def test_cvat_shapes_without_an_area_are_not_dropped_silently(project: Path, kind: str) -> None:
    path = project / "x.xml"
    path.write_text(_cvat(f'<{kind} label="crack" points="0,0;9,9" z_order="0"/>'))
    with pytest.raises(DataError, match=f"{kind}.*no area"):
        _import(project, path, "cvat-xml")


# Label Studio -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "link",
    [
        KEY,
        "/data/local-files/?d=" + quote(f"bridge/{KEY}"),
        "/data/local-files/?d=bridge/" + KEY,
        "/data/upload/7/1a2b3c4d-most_1_ą.jpg",
        "/data/upload/7/1a2b3c4d-" + quote("most_1_ą.jpg"),
        "s3://photos/2026/" + quote(KEY),
        "https://example.org/" + quote(KEY) + "?expires=3",
    ],
)
def test_label_studio_finds_photos_by_the_links_it_gives_them(project: Path, link: str) -> None:
    brush = {
        "type": "brushlabels", "original_width": WIDTH, "original_height": HEIGHT,
        "value": {"format": "rle", "rle": brush_bytes(_ids() == 1), "brushlabels": ["Crack"]},
    }  # fmt: skip
    annotations = [
        {"result": [brush], "was_cancelled": False},
        {"result": [], "was_cancelled": True},
    ]
    task = {"data": {"site": "b.jpg", "image": link}, "annotations": annotations}
    (project / "tasks.json").write_text(json.dumps([task]))
    ids = _import(project, project / "tasks.json", "label-studio")
    np.testing.assert_array_equal(ids, _ids() == 1)


# Pascal VOC ---------------------------------------------------------------------------------

LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndirt:9,8,7::\ncrack:250,50,83::\n"


def _voc(project: Path, values: np.ndarray, palette: dict[int, tuple[int, ...]] | None) -> Path:
    image = Image.fromarray(values)
    if palette is not None:
        colors = np.zeros((256, 3), np.uint8)
        for number, color in palette.items():
            colors[number] = color
        image.putpalette(colors.tobytes())
    folder = project / "voc" / "SegmentationClass"
    folder.mkdir(parents=True)
    image.save(folder / "b.png")
    return project / "voc"


@pytest.mark.parametrize("with_palette", [True, False])
def test_a_labelmap_says_what_the_numbers_of_a_voc_mask_are(
    project: Path, with_palette: bool
) -> None:
    """Of a palette it names the colours; of one channel, line by line, the numbers."""
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[2:5, 2:6], values[10:12, 10:12], values[0, 0] = 2, 1, 255
    palette = {1: (9, 8, 7), 2: (250, 50, 83), 255: (224, 224, 192)}
    source = _voc(project, values, palette if with_palette else None)
    (source / "labelmap.txt").write_text(LABELMAP)
    ids = _import(project, source, "voc", "b.jpg")
    assert [(ids == number).sum() for number in (0, 1, 3)] == [1, 12, 4]
    assert (ids == 4).sum() == ids.size - 17


def test_labelmes_converter_names_the_numbers_in_a_list(project: Path) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[2:5, 2:6], values[10:12, 10:12], values[0, 0] = 2, 1, 255
    source = _voc(project, values, {1: (128, 0, 0), 2: (0, 128, 0)})
    (source / "class_names.txt").write_text("_background_\npore\ncrack")
    ids = _import(project, source, "voc", "b.jpg")
    assert [(ids == number).sum() for number in (0, 1, 2)] == [1, 12, 4]


# YOLO ---------------------------------------------------------------------------------------

LINE = "1 " + " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in SQUARE) + "\n"


@pytest.mark.parametrize(
    "files",
    [
        {"data.yaml": "names: {0: dirt, 1: crack}\n", "labels/train/b.txt": LINE,
         "train.txt": "images/train/b.jpg\n"},
        {"dataset.yaml": "nc: 2\nnames: ['dirt', 'crack']\n", "train/labels/b.txt": LINE,
         "README.roboflow.txt": "Exported.\n", "valid/labels/most (1) ą.txt": ""},
        {"data.yaml": "names:\n  0: dirt\n  1: crack\n", "b.txt": LINE,
         "classes.txt": "dirt\ncrack\n"},
        {"data.yml": "names:\n- dirt\n- crack\n", "export/labels/b.txt": LINE},
    ],
)  # fmt: skip
def test_yolo_labels_are_found_wherever_tools_put_them(project: Path, files: dict) -> None:
    ids = _import(project, _packed(project, files), "yolo", "b.jpg")
    assert (ids == 1).sum() == ids.astype(bool).sum() == 12


# labelme and X-AnyLabeling ------------------------------------------------------------------


def test_turned_boxes_of_x_anylabeling_are_read(project: Path) -> None:
    ring = [[30, 10], [40, 20], [30, 30], [20, 20]]
    shape = {"label": "pore", "points": ring, "shape_type": "rotation", "direction": 0.78}
    value = {"version": "2.4.4", "shapes": [shape], "imagePath": "..\\photos\\b.jpg",
             "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}  # fmt: skip
    (project / "b.json").write_text(json.dumps(value))
    assert abs((_import(project, project / "b.json", "labelme", "b.jpg") == 2).sum() - 200) < 21


# Photos -------------------------------------------------------------------------------------


def test_a_damaged_photo_stops_only_the_import_of_its_own_mask(project: Path) -> None:
    (project / "photos" / "broken.jpg").write_bytes(b"")
    coco = {
        "images": [{"id": 1, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "crack"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": [np.ravel(SQUARE).tolist()]}
        ],
    }
    path = project / "c.json"
    path.write_text(json.dumps(coco))
    assert _import(project, path, "coco", "b.jpg").sum() == 12
    path.write_text(json.dumps(coco).replace("b.jpg", "broken.jpg"))
    with pytest.raises(DataError, match=r"broken\.jpg: it is empty"):
        _import(project, path, "coco")


def test_masks_of_very_large_photos_go_out_and_in(project: Path) -> None:
    size = (10_100, 5_000)  # beyond what the pipeline reads unasked
    photo = project / "large" / "photos" / "a.png"
    photo.parent.mkdir(parents=True)
    Image.new("1", size).save(photo)
    ids = np.zeros(size[::-1], np.uint8)
    ids[4000:4003, 100:8000] = 1
    write_mask(project / "large" / "mine" / "a.png.png", ids, CLASSES)
    out, photos = project / "large" / "out", photo.parent
    mine = project / "large" / "mine"
    shares = export_masks(out, "index-png", photos=photos, masks=mine, classes=CLASSES).round_trip
    assert dict(shares) == {"crack": 1}
