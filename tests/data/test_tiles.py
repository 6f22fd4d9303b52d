"""Tiles: which are positive, which background, which neither; and a folder whole or untouched."""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finicky.classes import DEFAULT_CLASSES, ClassTable, MaskClass
from finicky.data import tile_folder, tiles
from finicky.data.folders import read_class_folders
from finicky.data.pairs import find_pairs
from finicky.data.splits import carve_validation, read_split_csv
from finicky.data.tile_folder import read_table
from finicky.data.tiles import cut_tiles, file_name
from finicky.errors import DataError, UsageError
from finicky.images import read_image
from finicky.masks import write_mask

REAL = Path(__file__).parents[3] / "shared" / "data"
TARGETS = DEFAULT_CLASSES.targets()
SPLIT_OF = {"1.png": "train", "2.png": "validation", "3.png": "test"}


def paint() -> np.ndarray:
    """Ids of five tiles of 10 px: 5 % crack, clean, 1 % crack, 30 % pore, 1 % to ignore."""
    ids = np.zeros((10, 50), np.uint8)
    ids[0, 0:5] = 1
    ids[0, 20] = 1
    ids[:3, 30:40] = 2
    ids[9, 40] = 255
    return ids


def project(root: Path) -> Path:
    noise = np.random.default_rng(0)
    (root / "photos").mkdir(parents=True)
    for key in SPLIT_OF:
        photo = noise.integers(0, 255, (10, 50, 3), np.uint8)
        Image.fromarray(photo).save(root / "photos" / key)
        write_mask(root / "masks" / f"{key}.png", paint(), DEFAULT_CLASSES)
    return root


def cut(root: Path, out: Path, **options: object) -> tiles.TileReport:
    pairs = find_pairs(root / "photos", root / "masks").pairs
    defaults: dict[str, object] = {
        "classes": DEFAULT_CLASSES,
        "targets": TARGETS,
        "splits": {key: (split, f"group of {key}") for key, split in SPLIT_OF.items()},
        "tile": 10,
        "min_coverage": 0.02,
    }
    return cut_tiles(pairs, out, **(defaults | options))


def snapshot(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_tiles_are_positive_background_or_left_out(tmp_path):
    out = tmp_path / "tiles"
    report = cut(project(tmp_path), out)
    assert sorted(p.relative_to(out / "train").as_posix() for p in out.glob("train/*/*")) == [
        "background/1.png_10_0.png",
        "background/1.png_30_0.png",
        "crack/1.png_0_0.png",
    ]
    assert report.counts == tuple(
        (split, label, number)
        for split in ("train", "validation", "test")
        for label, number in [("crack", 1), ("background", 2)]
    )
    # Of each photo: 1 % crack is too little, and a pixel to ignore makes no negative.
    assert report.left_out == 6
    assert report.hard_negatives == 3
    assert report.rejected == ()


@pytest.mark.parametrize(("min_coverage", "positives"), [(0, 2), (0.01, 2), (0.05, 1)])
def test_the_smallest_coverage_of_a_positive_tile_is_included(tmp_path, min_coverage, positives):
    report = cut(project(tmp_path), tmp_path / "tiles", min_coverage=min_coverage)
    assert report.counts[0] == ("train", "crack", positives)


def test_the_table_says_where_each_tile_came_from(tmp_path):
    out = tmp_path / "tiles"
    cut(project(tmp_path), out)
    with (out / "tiles.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["tile"]: row for row in csv.DictReader(stream)}
    assert rows["validation/crack/2.png_0_0.png"] == {
        "tile": "validation/crack/2.png_0_0.png",
        "label": "crack",
        "split": "validation",
        "group": "group of 2.png",
        "photo": "2.png",
        "x": "0",
        "y": "0",
        "coverage": "0.05",
        "distractor": "0.0",
    }
    assert rows["test/background/3.png_30_0.png"]["distractor"] == "0.3"
    assert list(rows) == sorted(rows)
    for row in read_table(out):
        photo = read_image(tmp_path / "photos" / row.photo)
        expected = photo[row.y : row.y + 10, row.x : row.x + 10]
        np.testing.assert_array_equal(read_image(out / row.tile), expected)


def test_tiles_are_read_back_with_their_groups(tmp_path):
    out = tmp_path / "tiles"
    report = cut(project(tmp_path), out)
    table = read_class_folders(out)
    assert {s.group for s in table.samples if s.split == "test"} == {"group of 3.png"}
    assert set(table.counts()) == set(report.counts)


def test_tiles_that_do_not_fit_their_table_are_refused(tmp_path):
    out = tmp_path / "tiles"
    cut(project(tmp_path), out)
    extra = out / "train" / "crack" / "mine.png"
    extra.write_bytes(b"")
    with pytest.raises(DataError, match=r"mine\.png is not listed in tiles\.csv"):
        read_class_folders(out)
    extra.unlink()
    (out / "train" / "crack" / "1.png_0_0.png").rename(tmp_path / "away.png")
    with pytest.raises(DataError, match=r"no image|is missing but listed"):
        read_class_folders(out)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    project(tmp_path)
    cut(tmp_path, tmp_path / "a", max_per_photo=1, max_background_ratio=1)
    cut(tmp_path, tmp_path / "b", max_per_photo=1, max_background_ratio=1)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_stride_is_the_step_between_tiles(tmp_path):
    cut(project(tmp_path), tmp_path / "tiles", stride=5)
    xs = {row.x for row in read_table(tmp_path / "tiles")}
    assert {0, 5, 10} <= xs


def test_tiles_per_photo_are_limited_for_each_class(tmp_path):
    project(tmp_path)
    report = cut(tmp_path, tmp_path / "tiles", max_per_photo=1)
    assert {number for _, _, number in report.counts} == {1}
    drawn = set()
    for seed in range(6):
        out = tmp_path / f"seed{seed}"
        cut(tmp_path, out, max_per_photo=1, seed=seed)
        drawn.add(tuple(row.tile for row in read_table(out)))
    assert len(drawn) > 1


def test_background_is_limited_by_the_positives_of_its_split(tmp_path):
    out = tmp_path / "tiles"
    report = cut(project(tmp_path), out, max_background_ratio=1)
    assert {number for _, _, number in report.counts} == {1}
    assert len(list(out.rglob("*.png"))) == 6


def test_of_several_targets_the_largest_names_the_tile(tmp_path):
    classes = ClassTable(
        [
            MaskClass(1, "crack", "#000001", "1", "target"),
            MaskClass(2, "spall", "#000002", "2", "target"),
        ]
    )
    report = cut(project(tmp_path), tmp_path / "tiles", classes=classes, targets=tuple(classes))
    assert report.counts[:3] == (
        ("train", "crack", 1),
        ("train", "spall", 1),
        ("train", "background", 1),
    )


def test_bad_pairs_are_listed_and_the_others_are_cut(tmp_path):
    project(tmp_path)
    for key in ("4.png", "5.png", "6.png"):
        Image.new("RGB", (50, 10)).save(tmp_path / "photos" / key)
        write_mask(tmp_path / "masks" / f"{key}.png", paint(), DEFAULT_CLASSES)
    (tmp_path / "photos" / "4.png").write_bytes(b"broken")
    Image.new("RGB", (30, 10)).save(tmp_path / "photos" / "5.png")
    for folder, image in [("photos", "6.png"), ("masks", "6.png.png")]:
        Image.new("L", (50, 9)).save(tmp_path / folder / image)
    splits = {f"{i}.png": ("train", f"{i}") for i in (1, 4, 5, 6)}
    splits |= {"2.png": ("validation", "2"), "3.png": ("test", "3")}
    report = cut(tmp_path, tmp_path / "tiles", splits=splits)
    assert [rejected.path.name for rejected in report.rejected] == ["4.png", "5.png", "6.png"]
    reasons = [rejected.reason for rejected in report.rejected]
    assert "not a readable" in reasons[0]
    assert "its photo is 30x10 px" in reasons[1]
    assert "smaller than a tile of 10 px" in reasons[2]
    assert sum(number for _, _, number in report.counts) == 9


@pytest.mark.parametrize(
    ("ids", "missing"),
    [
        (np.zeros((10, 50), np.uint8), "no crack tile of 10 px in the split test"),
        (np.ones((10, 50), np.uint8), "no background tile of 10 px in the split test.*clean"),
    ],
)
def test_a_split_without_a_class_is_refused_and_nothing_is_left(tmp_path, ids, missing):
    project(tmp_path)
    write_mask(tmp_path / "masks" / "3.png.png", ids, DEFAULT_CLASSES)
    with pytest.raises(DataError, match=missing):
        cut(tmp_path, tmp_path / "tiles")
    assert not (tmp_path / "tiles").exists()


def test_a_missing_class_names_the_first_rejected_photo(tmp_path):
    project(tmp_path)
    (tmp_path / "photos" / "3.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="1 photos could not be used, the first: cannot read"):
        cut(tmp_path, tmp_path / "tiles")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    project(tmp_path)
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UsageError, match="not empty and holds no tiles"):
            cut(tmp_path, tmp_path / "tiles", force=force)
    assert snapshot(tmp_path / "tiles").keys() == {"thesis.txt"}


def test_a_file_in_the_way_is_refused(tmp_path):
    project(tmp_path)
    (tmp_path / "tiles").touch()
    with pytest.raises(UsageError, match="is a file"):
        cut(tmp_path, tmp_path / "tiles")


def test_earlier_tiles_are_replaced_only_with_force(tmp_path):
    project(tmp_path)
    out = tmp_path / "tiles"
    cut(tmp_path, out)
    before = snapshot(out)
    with pytest.raises(UsageError, match=r"holds tiles already.*--force"):
        cut(tmp_path, out)
    assert snapshot(out) == before
    cut(tmp_path, out, tile=5, force=True)
    assert {row.tile for row in read_table(out)} | {"tiles.csv"} == snapshot(out).keys()
    assert before.keys() != snapshot(out).keys()


def test_a_failed_replacement_keeps_the_earlier_tiles(tmp_path):
    project(tmp_path)
    out = tmp_path / "tiles"
    cut(tmp_path, out)
    before = snapshot(out)
    with pytest.raises(DataError, match="no crack tile"):
        cut(tmp_path, out, min_coverage=0.5, force=True)
    assert snapshot(out) == before


def test_replacing_never_removes_a_file_that_is_no_tile(tmp_path):
    project(tmp_path)
    out = tmp_path / "tiles"
    cut(tmp_path, out)
    (out / "train" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt is none of the tiles"):
        cut(tmp_path, out, force=True)


@pytest.mark.parametrize("stop", ["_write", "publish"])
def test_an_interrupted_cut_is_done_anew(tmp_path, monkeypatch, stop):
    project(tmp_path)
    out = tmp_path / "tiles"
    cut(tmp_path, tmp_path / "whole")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tiles, stop, killed)
        # A killed process cleans nothing up.
        patch.setattr(tile_folder.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            cut(tmp_path, out)
    assert (out / ".finicky-tiles").is_dir()
    cut(tmp_path, out)
    assert snapshot(out) == snapshot(tmp_path / "whole")


def test_a_cut_that_died_while_moving_tiles_is_done_anew(tmp_path, monkeypatch):
    project(tmp_path)
    out = tmp_path / "tiles"
    cut(tmp_path, tmp_path / "whole")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tile_folder, "write_text", killed)
        patch.setattr(tile_folder.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            cut(tmp_path, out)
    assert (out / "train").is_dir()
    assert not (out / "tiles.csv").exists()
    cut(tmp_path, out)
    assert snapshot(out) == snapshot(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs file rights")
def test_a_folder_that_cannot_be_written_is_a_data_error(tmp_path):
    project(tmp_path)
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match="could not write tiles"):
        cut(tmp_path, tmp_path / "locked" / "tiles")


def test_a_full_disk_is_a_data_error_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    project(tmp_path)
    monkeypatch.setattr(tiles, "_write", full)
    with pytest.raises(DataError, match=r"could not write tiles to .*: No space left"):
        cut(tmp_path, tmp_path / "tiles")
    assert not (tmp_path / "tiles").exists()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"min_coverage": 1.5}, r"min_coverage must be in \[0, 1\], got 1\.5"),
        ({"max_per_photo": 0}, "max_per_photo must be at least 1, got 0"),
        ({"max_background_ratio": 0}, "max_background_ratio must be above 0, got 0"),
        ({"targets": ()}, "no target class"),
        ({"targets": (DEFAULT_CLASSES.named("background"),)}, "'background' need another"),
        ({"tile": 0}, "tile and stride must be at least 1 px"),
        ({"stride": 0}, "tile and stride must be at least 1 px"),
        ({"splits": {"1.png": ("train", "g")}}, r"no split was given for 2 photos, such as 2\.png"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, option, text):
    with pytest.raises(UsageError, match=text):
        cut(project(tmp_path), tmp_path / "tiles", **option)
    assert not (tmp_path / "tiles").exists()


def test_progress_is_told_of_each_photo(tmp_path):
    steps: list[tuple[str, int, int]] = []
    cut(project(tmp_path), tmp_path / "tiles", progress=lambda *step: steps.append(step))
    assert steps == [("cutting tiles", done, 3) for done in (1, 2, 3)]


def test_file_names_are_safe_and_never_collide():
    keys = ["a/b.jpg", "a b.jpg", "a-b.jpg", "ż.jpg", "z.jpg", "x" * 200, "x" * 201, "a\\b.jpg"]
    found = [file_name(key) for key in keys]
    assert len(set(found)) == len(keys)
    assert found[2] == "a-b.jpg"
    assert all(name.isascii() and len(name) < 100 and " " not in name for name in found)


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "tiles.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"tiles\.csv is not a table of tiles"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="cannot read"):
        read_table(tmp_path / "nowhere")


@pytest.mark.real_data
def test_real_photos_give_both_classes_in_every_split(tmp_path):
    root = REAL / "cfd"
    if not root.is_dir():
        pytest.skip("no folder ../shared/data/cfd beside the checkout")
    pairs = find_pairs(root / "images", root / "masks").pairs
    splits = carve_validation(read_split_csv(root / "split.csv"))
    few = [p for s in ("train", "validation", "test") for p in pairs if splits[p.key][0] == s][::6]
    report = cut_tiles(few, tmp_path / "t", classes=DEFAULT_CLASSES, targets=TARGETS, splits=splits)
    assert all(number > 0 for _, _, number in report.counts)
    assert report.rejected == ()
    assert all(row.coverage == 0 or row.coverage >= 0.01 for row in read_table(tmp_path / "t"))
