"""Places and scales: what a file says, what it cannot mean, and what damaged metadata does."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

import finicky
from edge.edge_helpers import dark_bundle
from finicky.edge import PredictSettings
from finicky.edge.photos import opened_photo
from finicky.edge.places import Georeference, Location
from finicky.edge.utm import from_utm


def wall() -> Image.Image:
    """Light grey, 100 by 70 px, with a dark bar of 40 by 8 px at (20, 24)."""
    rgb = np.full((70, 100, 3), 210, np.uint8)
    rgb[24:32, 20:60] = 10
    return Image.fromarray(rgb)


def geotiff(
    path: Path,
    keys: dict[int, int],
    *,
    scale: tuple[float, ...] = (0.002, 0.002, 0.0),
    tie: tuple[float, ...] = (0.0, 0.0, 0.0, 500_000.0, 5_780_000.0, 0.0),
    **tags: object,
) -> Path:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[33550], info.tagtype[33550] = scale, 12
    info[33922], info.tagtype[33922] = tie, 12
    directory = [1, 1, 0, len(keys)]
    for key, value in sorted(keys.items()):
        directory += [key, 0, 1, value]
    info[34735], info.tagtype[34735] = tuple(directory), 3
    for number, value in tags.items():
        info[int(number.removeprefix("t"))] = value
    wall().save(path, tiffinfo=info)
    return path


def gps_photo(path: Path, gps: dict[int, object], **exif_tags: object) -> Path:
    exif = Image.Exif()
    exif[0x8825] = exif._ifds[0x8825] = gps  # both: Pillow's writers look at different ones
    for name, value in exif_tags.items():
        exif.get_ifd(0x8769)[int(name.removeprefix("t"))] = value
    wall().save(path, exif=exif, dpi=(254, 254))
    return path


WARSAW = {1: "N", 2: (52.0, 13.0, 48.0), 3: "E", 4: (21.0, 0.0, 36.0)}
UTM = {1024: 1, 1025: 1, 3072: 32634}


def location(path: Path) -> Location:
    with opened_photo(path) as photo:
        return photo.location


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def inspected(tmp_path: Path, out: Path, **settings: object) -> dict[str, dict[str, str]]:
    bundle = dark_bundle(tmp_path / "bundle")
    finicky.predict(bundle, tmp_path / "photos", out, PredictSettings(**settings))
    with (out / "defects.csv").open(newline="") as stream:
        return {row["image"]: row for row in csv.DictReader(stream)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_gps_becomes_a_point(tmp_path, photos, out, suffix):
    gps_photo(photos / f"a{suffix}", WARSAW)
    wall().save(photos / "nowhere.png")
    inspected(tmp_path, out)
    shapes = json.loads((out / "photos.geojson").read_text())
    (feature,) = shapes["features"]
    assert feature["geometry"]["coordinates"] == pytest.approx([21.01, 52.23])
    assert feature["properties"]["file"] == f"a{suffix}"
    assert feature["properties"]["regions"] == 1


def test_south_and_west_are_negative(photos):
    path = gps_photo(photos / "a.jpg", {1: "S", 2: (33.0, 30.0, 0.0), 3: "W", 4: (70.0, 0.0, 0.0)})
    found = location(path)
    assert (found.latitude, found.longitude) == pytest.approx((-33.5, -70))


@pytest.mark.parametrize(
    "gps",
    [
        {},
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},  # a camera without a fix
        {1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (21.0, 0.0, 0.0)},
        {1: "N", 2: (52.0, 0.0, 0.0), 3: "E", 4: (181.0, 0.0, 0.0)},
        {1: "N", 2: (52.0, 0.0, 0.0)},
        {2: (52.0, 0.0, 0.0), 4: (21.0, 0.0, 0.0)},  # north or south?
        {1: b"N", 2: (52.0, 0.0, 0.0), 3: "", 4: (21.0, 0.0, 0.0)},
        {1: "N", 2: (TiffImagePlugin.IFDRational(1, 0),) * 3, 3: "E", 4: (21.0, 0.0, 0.0)},
    ],
)
def test_places_that_cannot_be_are_none(tmp_path, photos, out, gps):
    path = gps_photo(photos / "a.jpg", gps)
    assert location(path).latitude is None
    assert location(path).longitude is None
    inspected(tmp_path, out)
    assert not (out / "photos.geojson").exists()


def test_a_projected_geotiff_gives_millimetres_and_outlines_in_its_system(tmp_path, photos, out):
    geotiff(photos / "g.tif", UTM)
    row = inspected(tmp_path, out)["g.tif"]
    assert float(row["length_mm"]) == pytest.approx(2 * float(row["length_px"]), abs=0.2)
    assert float(row["lat"]) == pytest.approx(52.17, abs=0.01)
    assert float(row["lon"]) == pytest.approx(21, abs=1e-5)  # the middle of zone 34
    shapes = json.loads((out / "geojson" / "g.tif.geojson").read_text())
    assert shapes["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32634"
    assert "coordinates" not in shapes
    ((ring,),) = shapes["features"][0]["geometry"]["coordinates"]
    assert sorted(map(tuple, ring[:-1])) == [
        (500_000.04, 5_779_999.936),
        (500_000.04, 5_779_999.952),
        (500_000.12, 5_779_999.936),
        (500_000.12, 5_779_999.952),
    ]
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring))
    assert area > 0, "outer rings run counter-clockwise (RFC 7946)"


def test_a_geotiff_in_degrees_is_plain_geojson(tmp_path, photos, out):
    keys = {1024: 2, 1025: 1, 2048: 4326}
    geotiff(photos / "g.tif", keys, scale=(1e-7, 1e-7, 0.0), tie=(0, 0, 0, 21.0, 52.0, 0))
    row = inspected(tmp_path, out)["g.tif"]
    assert float(row["lon"]) == pytest.approx(21 + 40e-7)
    assert float(row["lat"]) == pytest.approx(52 - 28e-7)
    assert row["length_mm"] == ""  # a degree is no length
    shapes = json.loads((out / "geojson" / "g.tif.geojson").read_text())
    assert set(shapes) == {"type", "features"}
    (feature,) = json.loads((out / "photos.geojson").read_text())["features"]
    assert feature["geometry"]["coordinates"] == pytest.approx([21 + 50e-7, 52 - 35e-7], abs=1e-8)


@pytest.mark.parametrize(
    ("epsg", "east", "north", "expected"),
    [
        (32617, 630_084, 4_833_438, (43.642567, -79.387139)),  # CN Tower, as published
        (32633, 500_000, 0, (0, 15)),
        (32733, 500_000, 10_000_000, (0, 15)),
    ],
)
def test_utm_is_converted(epsg, east, north, expected):
    assert from_utm(epsg, east, north) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("latitude", [-79.0, -33.3, 12.5, 52.0, 83.0])
def test_along_the_middle_of_a_zone_utm_is_the_length_of_the_meridian(latitude):
    """The arc is integrated here: a second way, within a millimetre."""
    e2 = (2 - 1 / 298.257223563) / 298.257223563
    phi, half = np.radians(latitude), np.radians(latitude) / 20000
    middles = np.arange(10000) * 2 * half + half
    arc = (6_378_137 * (1 - e2) / (1 - e2 * np.sin(middles) ** 2) ** 1.5 * 2 * half).sum()
    epsg, false = (32631, 0) if phi > 0 else (32731, 10_000_000)
    found = from_utm(epsg, 500_000, 0.9996 * arc + false)
    assert found == pytest.approx((latitude, 3), abs=1e-8)


def test_web_mercator_is_not_taken_at_its_word(photos):
    """At 60 degrees north its metre is half a metre."""
    north = 6_378_137.0 * np.arctanh(np.sin(np.radians(60)))
    keys = {1024: 1, 1025: 1, 3072: 3857}
    found = location(geotiff(photos / "g.tif", keys, tie=(0, 0, 0, 0, north, 0)))
    assert found.mm_per_px(100, 70, given=None, dpi=False) == pytest.approx(1, rel=1e-4)
    assert found.middle(0, 0) == pytest.approx((60, 0))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({1024: 1, 3072: 2263, 3076: 9003}, 0.002 * 1200 / 3937 * 1000),  # US survey feet
        ({1024: 1, 3072: 2263}, None),  # of a system whose unit is not known here
        ({1024: 1, 3072: 32767, 3076: 9001}, 2),
        ({1024: 3}, None),
        ({}, None),
    ],
)
def test_units_are_those_of_the_file(photos, keys, expected):
    found = location(geotiff(photos / "g.tif", keys))
    assert found.mm_per_px(100, 70, given=None, dpi=False) == (
        None if expected is None else pytest.approx(expected)
    )
    assert found.mm_per_px(100, 70, given=0.7, dpi=True) == 0.7


def test_pixels_that_are_points_are_shifted_by_half(photos):
    one = location(geotiff(photos / "a.tif", UTM)).grid
    two = location(geotiff(photos / "b.tif", UTM | {1025: 2})).grid
    assert one.point(0.5, 0.5) == pytest.approx(two.point(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        {"scale": (0.0, 0.002, 0.0)},
        {"scale": (float("nan"), 0.002, 0.0)},
        {"scale": (0.002,)},
        {"tie": (0.0, 0.0)},
        {"t274": 6},  # turned: its rows lie elsewhere
    ],
)
def test_geotiffs_that_cannot_be_are_photos_without_a_place(tmp_path, photos, out, change):
    geotiff(photos / "g.tif", UTM, **change)
    row = inspected(tmp_path, out)["g.tif"]
    assert row["length_mm"] == ""
    shapes = json.loads((out / "geojson" / "g.tif.geojson").read_text())
    assert shapes["coordinates"] == "pixel-topleft"


@pytest.mark.parametrize("epsg", [4326, 3857, 32634])
@pytest.mark.parametrize("far", [1e9, 1e300, -1e300])
def test_grids_far_off_the_globe_stop_nothing(tmp_path, photos, out, epsg, far):
    keys = {1024: 2, 2048: epsg} if epsg == 4326 else {1024: 1, 3072: epsg}
    geotiff(photos / "g.tif", keys, tie=(0.0, 0.0, 0.0, far, far, 0.0))
    row = inspected(tmp_path, out)["g.tif"]
    assert (row["lat"], row["lon"]) == ("", "")
    assert not (out / "photos.geojson").exists()


def test_a_grid_that_is_turned_and_mirrored():
    turned = Georeference((0.0, 1.0, 5.0, 1.0, 0.0, 7.0), None, 1.0)
    assert turned.point(2, 3) == (8.0, 9.0)
    assert not turned.mirrored
    assert Georeference((1.0, 0, 0, 0, 1.0, 0), None, 1.0).mirrored
    assert turned.mm_per_px(10, 10) == 1000
    assert Georeference((1.0, 0, 0, 0, -2.0, 0), None, 1.0).mm_per_px(10, 10) is None


def test_the_resolution_is_a_scale_only_where_asked_for_and_not_of_cameras(tmp_path, photos, out):
    wall().save(photos / "scan.png", dpi=(254, 254))
    gps_photo(photos / "camera.jpg", {}, t37386=4.5, t33434=0.01)
    wall().save(photos / "default.jpg", dpi=(1, 1))
    row = inspected(tmp_path, out)["scan.png"]
    assert row["length_mm"] == ""
    found = inspected(tmp_path, tmp_path / "dpi", dpi_is_scale=True)
    ratio = float(found["scan.png"]["length_mm"]) / float(found["scan.png"]["length_px"])
    assert ratio == pytest.approx(0.1, rel=0.01)
    assert found["camera.jpg"]["length_mm"] == found["default.jpg"]["length_mm"] == ""


def test_damaged_metadata_costs_no_photo(tmp_path, photos, out):
    """Every byte of the metadata is changed in turn; the pixels are whole, so the photo counts."""
    path = gps_photo(tmp_path / "good.jpg", WARSAW)
    good = path.read_bytes()
    start = good.index(b"Exif\0\0") + 6
    length = int.from_bytes(good[start - 8 : start - 6], "big") - 8
    for k in range(0, length, 2):
        for value in (0x00, 0xFF):
            changed = bytearray(good)
            changed[start + k] = value
            (photos / "p.jpg").write_bytes(changed)
            location(photos / "p.jpg")
    inspected(tmp_path, out)
    assert (out / "masks" / "p.jpg.png").is_file()
