"""Every format out and in again; imports that lose nothing and trust nobody."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finicky.classes import DEFAULT_CLASSES as CLASSES
from finicky.data.formats import FORMATS, ExchangeOptions, export_masks, import_masks
from finicky.data.formats.record import PhotoIndex
from finicky.errors import DataError, FinickyError, UsageError
from finicky.masks import read_mask, write_mask

SIZE = (64, 48)
KEYS = ("a.jpg", "sub/b.07.jpg")


def _ids(seed: int) -> np.ndarray:
    ids = np.zeros((48, 64), np.uint8)
    ids[5:40, 10:12] = ids[5:40, 40:42] = ids[5:7, 10:42] = ids[38:40, 10:42] = 1  # a closed loop
    ids[20:24, 20:26] = 2
    ids[30:33, 50:60] = 3
    ids[0:3] = 4
    ids[44 + seed, 5] = 1
    return ids


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for number, key in enumerate(KEYS):
        photo = tmp_path / "photos" / key
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (90, 90, 90)).save(photo)
        write_mask(tmp_path / "masks" / f"{key}.png", _ids(number), CLASSES)
    return tmp_path


def _export(project: Path, name: str, **options: object):  # type: ignore[no-untyped-def]
    return export_masks(
        project / "out",
        name,
        photos=project / "photos",
        masks=project / "masks",
        classes=CLASSES,
        options=ExchangeOptions(**options),  # type: ignore[arg-type]
    )


def _import(project: Path, source: Path, name: str, **options):  # type: ignore[no-untyped-def]
    return import_masks(
        source,
        name,
        photos=project / "photos",
        masks=project / options.pop("into", "new"),
        backups=project / "backups",
        classes=CLASSES,
        **options,
    )


def _read(project: Path, key: str, folder: str = "new") -> np.ndarray:
    return read_mask(project / folder / f"{key}.png", CLASSES, size=SIZE)


EXACT = ("index-png", "voc", "cvat-xml", "labelme", "coco", "label-studio", "yolo", "original")


@pytest.mark.parametrize("name", EXACT)
def test_a_round_trip_loses_no_pixel_of_any_class(project: Path, name: str) -> None:
    report = _export(project, name)
    assert dict(report.round_trip) == {"crack": 1, "pore": 1, "dirt": 1, "background": 1}
    _import(project, project / "out", name)
    for number, key in enumerate(KEYS):
        np.testing.assert_array_equal(_read(project, key), _ids(number))


@pytest.mark.parametrize("name", ["binary-png", "crackforest"])
def test_binary_formats_keep_the_crack_and_say_what_they_lose(project: Path, name: str) -> None:
    report = _export(project, name)
    assert dict(report.round_trip) == {"crack": 1, "pore": 0, "dirt": 0, "background": 0}
    _import(project, project / "out", name)
    np.testing.assert_array_equal(_read(project, KEYS[0]), np.where(_ids(0) == 1, 1, 0))


def test_cvat_masks_say_that_unlabelled_and_background_become_one(project: Path) -> None:
    shares = dict(_export(project, "cvat-mask").round_trip)
    assert shares["crack"] == shares["pore"] == shares["dirt"] == 1
    assert shares["background"] < 0.2


def test_coco_polygons_are_exact_without_tolerance_and_honest_with_it(project: Path) -> None:
    y, x = np.mgrid[:48, :64]
    disc = (np.hypot(y - 24, x - 32) < 15).astype(np.uint8)
    write_mask(project / "masks" / "a.jpg.png", disc, CLASSES)
    assert dict(_export(project, "coco", polygons=True).round_trip)["crack"] == 1
    other = export_masks(
        project / "rough",
        "coco",
        photos=project / "photos",
        masks=project / "masks",
        classes=CLASSES,
        options=ExchangeOptions(polygons=True, tolerance=3),
    )
    assert 0 < dict(other.round_trip)["crack"] < 1


def test_a_cvat_zip_is_read_as_it_is(project: Path) -> None:
    _export(project, "cvat-mask")
    packed = project / "cvat.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (project / "out").rglob("*"):
            if path.is_file():
                archive.write(path, path.relative_to(project / "out").as_posix())
    _import(project, packed, "cvat-mask")
    assert ((_read(project, KEYS[1]) == 1) == (_ids(1) == 1)).all()


def test_the_unmarked_can_become_background(project: Path) -> None:
    _export(project, "binary-png")
    _import(project, project / "out", "binary-png", options=ExchangeOptions(unmarked=4))
    assert set(np.unique(_read(project, KEYS[0]))) == {1, 4}


def test_an_import_never_writes_over_a_mask_unasked(project: Path) -> None:
    _export(project, "labelme")
    before = (project / "masks" / "a.jpg.png").read_bytes()
    with pytest.raises(UsageError, match="2 of 2 photos have a mask already"):
        _import(project, project / "out", "labelme", into="masks")
    assert (project / "masks" / "a.jpg.png").read_bytes() == before


def test_keep_merge_and_replace_do_what_they_say(project: Path) -> None:
    _export(project, "index-png")
    own = np.zeros((48, 64), np.uint8)
    own[5, 10] = 3
    write_mask(project / "masks" / "a.jpg.png", own, CLASSES)
    (project / "masks" / "sub" / "b.07.jpg.png").unlink()

    kept = _import(project, project / "out", "index-png", into="masks", on_existing="keep")
    assert kept.kept == ("a.jpg",)
    assert kept.written == ("sub/b.07.jpg",)
    np.testing.assert_array_equal(_read(project, "a.jpg", "masks"), own)

    merged = _import(project, project / "out", "index-png", into="masks", on_existing="merge")
    expected = _ids(0)
    expected[5, 10] = 3
    np.testing.assert_array_equal(_read(project, "a.jpg", "masks"), expected)
    assert merged.backup is not None
    np.testing.assert_array_equal(read_mask(merged.backup / "a.jpg.png", CLASSES, size=SIZE), own)

    _import(project, project / "out", "index-png", into="masks", on_existing="replace")
    np.testing.assert_array_equal(_read(project, "a.jpg", "masks"), _ids(0))


def test_a_dry_run_writes_nothing(project: Path) -> None:
    _export(project, "coco")
    report = _import(project, project / "out", "coco", dry_run=True)
    assert len(report.written) == 2
    assert report.pixels.of("pore") == 48
    assert not (project / "new").exists()


def _labelme(project: Path, **changes: object) -> Path:
    value = {
        "version": "5.0",
        "imagePath": "a.jpg",
        "imageHeight": 48,
        "imageWidth": 64,
        "imageData": None,
        "shapes": [
            {"label": "crack", "points": [[2, 2], [6, 2], [6, 5], [2, 5]], "shape_type": "polygon"},
            {"label": "Pore", "points": [[10, 10], [14, 12]], "shape_type": "rectangle"},
            {"label": "dirt", "points": [[30, 30], [33, 30]], "shape_type": "circle"},
            {"label": "background", "points": [[3, 3], [5, 4]], "shape_type": "rectangle"},
        ],
        "score": 0.5,
        **changes,
    }
    path = project / "a.json"
    path.write_text(json.dumps(value))
    return path


def test_labelme_shapes_are_drawn_in_order(project: Path) -> None:
    _import(project, _labelme(project), "labelme")
    ids = _read(project, "a.jpg")
    assert (ids == 1).sum() == 12 - 2
    assert (ids == 2).sum() == 8
    assert (ids == 4).sum() == 2
    assert abs((ids == 3).sum() - np.pi * 9) < 5


def test_cvat_polygons_and_masks_are_read(project: Path) -> None:
    path = project / "x.xml"
    path.write_text(
        '<annotations><image id="0" name="a.jpg" width="64" height="48">'
        '<polygon label="crack" points="2,2;6,2;6,5;2,5" z_order="0"/>'
        '<mask label="pore" rle="1, 2, 1" left="4" top="3" width="2" height="2" z_order="1"/>'
        '<tag label="checked" source="manual"/></image></annotations>'
    )
    _import(project, path, "cvat-xml")
    ids = _read(project, "a.jpg")
    assert np.argwhere(ids == 2).tolist() == [[3, 5], [4, 4]]
    assert (ids == 1).sum() == 10


def test_coco_and_label_studio_polygons_are_read(project: Path) -> None:
    square = [2, 2, 6, 2, 6, 5, 2, 5]
    coco = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}],
        "categories": [{"id": 3, "name": "crack"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [square]},
            {
                "id": 2, "image_id": 7, "category_id": 3, "iscrowd": 1,
                "segmentation": {"size": [48, 64], "counts": [0, 1, 48 * 64 - 1]},
            },
        ],
    }  # fmt: skip
    (project / "c.json").write_text(json.dumps(coco))
    _import(project, project / "c.json", "coco")
    assert (_read(project, "a.jpg") == 1).sum() == 13
    points = [[x / 64 * 100, y / 48 * 100] for x, y in zip(square[::2], square[1::2], strict=True)]
    result = {
        "type": "polygonlabels", "original_width": 64, "original_height": 48,
        "value": {"points": points, "polygonlabels": ["crack"]},
    }  # fmt: skip
    data = {"image": "/data/upload/3/0123abcd-a.jpg"}
    (project / "l.json").write_text(
        json.dumps([{"data": data, "annotations": [{"result": [result]}]}])
    )
    _import(project, project / "l.json", "label-studio", into="other")
    assert (_read(project, "a.jpg", "other") == 1).sum() == 12


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"imagePath": "../../etc/passwd"}, "no photo is called"),
        ({"imagePath": "x/../a.jpg"}, "no name of a photo"),
        ({"imagePath": "C:\\a.jpg"}, "no name of a photo"),
        ({"imagePath": "b\u0000.jpg"}, "no name of a photo"),
        ({"imagePath": "gone.jpg"}, "no photo is called"),
        ({"imageHeight": 64, "imageWidth": 48}, "lie on its side"),
        ({"shapes": [{"label": "crush", "points": [[0, 0]]}]}, "classes: crack, pore"),
        ({"shapes": [{"label": "crack", "points": [[0, 0]], "shape_type": "line"}]}, "no area"),
        ({"shapes": [{"points": [[0, 0]]}]}, "damaged"),
        ({"shapes": 3}, "damaged"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_before_anything_is_written(
    project: Path, changes: dict, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        _import(project, _labelme(project, **changes), "labelme")
    assert not (project / "new").exists()


def test_xml_that_declares_entities_is_refused(project: Path) -> None:
    path = project / "x.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>')
    with pytest.raises(DataError, match="entities"):
        _import(project, path, "cvat-xml")


def test_a_zip_with_paths_that_lead_out_is_refused(project: Path) -> None:
    packed = project / "x.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../SegmentationClass/a.png", b"x")
    with pytest.raises(DataError, match="no name of a photo"):
        _import(project, packed, "voc")


def test_undeclared_colours_are_refused(project: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", SIZE, (1, 2, 3)).save(stream, format="PNG")
    folder = project / "voc" / "SegmentationClass"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(stream.getvalue())
    (project / "voc" / "labelmap.txt").write_text("crack:213,94,0::\nbackground:0,0,0::\n")
    with pytest.raises(DataError, match="does not declare"):
        _import(project, project / "voc", "voc")


def test_an_export_needs_an_empty_folder(project: Path) -> None:
    _export(project, "coco")
    with pytest.raises(UsageError, match="not empty"):
        _export(project, "coco")


def test_an_unknown_format_lists_the_near_ones(project: Path) -> None:
    with pytest.raises(UsageError, match="labelme"):
        _export(project, "labelmee")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_garbage_is_a_clear_error_in_every_format(project: Path, name: str) -> None:
    garbage = project / "garbage"
    garbage.mkdir()
    for suffix in ("json", "xml", "png", "mat", "txt"):
        (garbage / f"a.{suffix}").write_bytes(b"\x00\xff[{<garbage")
    with pytest.raises(FinickyError):
        _import(project, garbage, name)


def test_a_name_is_found_with_or_without_its_suffix_and_folder() -> None:
    index = PhotoIndex({"x/Ä b.jpg": (1, 1), "y/c.jpg": (1, 1), "z/c.jpg": (1, 1)})
    for name in ("x/Ä b.jpg", "Ä b.jpg", "ä b", "x\\A\u0308 b.jpg"):
        assert index.find(name) == "x/Ä b.jpg"
    with pytest.raises(DataError, match="fits 2 photos"):
        index.find("c.jpg")
