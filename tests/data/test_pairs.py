"""Photos find their masks by whole relative path, and bad pairs are listed, not fatal."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finicky.classes import DEFAULT_CLASSES
from finicky.data.pairs import find_pairs, load_pair, usable_pairs
from finicky.errors import DataError, ImageError, MaskError, UsageError
from finicky.masks import write_mask

TARGETS = DEFAULT_CLASSES.targets()


def lay(root: Path, photos: list[str], masks: list[str]) -> tuple[Path, Path]:
    for folder, names in [("photos", photos), ("masks", masks)]:
        (root / folder).mkdir()
        for name in names:
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / name).touch()
    return root / "photos", root / "masks"


def matched(root: Path, photos: list[str], masks: list[str]) -> dict[str, str]:
    folders = lay(root, photos, masks)
    return {p.key: p.mask.relative_to(folders[1]).as_posix() for p in find_pairs(*folders).pairs}


def write_pair(root: Path, key: str, ids: np.ndarray) -> None:
    height, width = ids.shape
    (root / "photos").mkdir(exist_ok=True)
    Image.new("RGB", (width, height), (7, 8, 9)).save(root / "photos" / key)
    write_mask(root / "masks" / f"{key}.png", ids, DEFAULT_CLASSES)


def ids_with(*, target: int = 0, other: int = 0) -> np.ndarray:
    ids = np.zeros((4, 6), np.uint8)
    ids.ravel()[:target] = 1
    ids.ravel()[target : target + other] = 2
    return ids


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("bridge.07.jpg", "bridge.07.jpg.png"),
        ("bridge.07.jpg", "bridge.07.png"),
        ("site a/1.JPG", "site a/1.tif"),
        ("1.jpg", "1.PNG"),
        ("1.JPG", "1.jpg.png"),
        ("1.png", "1.png"),
        ("1.bmp", "1.gif"),
    ],
)
def test_a_mask_is_found_by_photo_name_or_stem(tmp_path, photo, mask):
    assert matched(tmp_path, [photo], [mask]) == {photo: mask}


def test_composed_and_decomposed_accents_are_the_same_name(tmp_path):
    composed = unicodedata.normalize("NFC", "ściana ó.jpg")
    decomposed = unicodedata.normalize("NFD", "ściana ó.png")
    assert matched(tmp_path, [composed], [decomposed]) == {composed: decomposed}


def test_only_whole_relative_paths_match(tmp_path):
    folders = lay(tmp_path, ["a/1.jpg", "b/1.jpg", "2.jpg"], ["1.png", "2.png", "c/1.png"])
    scan = find_pairs(*folders)
    assert [pair.key for pair in scan.pairs] == ["2.jpg"]
    assert [path.parent.name for path in scan.unmasked] == ["a", "b"]
    assert len(scan.orphan_masks) == 2


def test_same_stems_are_told_apart_by_the_whole_name(tmp_path):
    assert matched(tmp_path, ["1.jpg", "1.png"], ["1.jpg.png", "1.png.png"]) == {
        "1.jpg": "1.jpg.png",
        "1.png": "1.png.png",
    }


def test_a_stem_serves_the_photo_that_has_no_mask_of_its_whole_name(tmp_path):
    assert matched(tmp_path, ["1.jpg", "1.webp"], ["1.jpg.png", "1.png"]) == {
        "1.jpg": "1.jpg.png",
        "1.webp": "1.png",
    }


def test_names_that_are_a_photo_plus_png_do_not_confuse(tmp_path):
    # The mask of the photo "1.jpg.png" by stem is also the mask of "1.jpg" by whole name.
    assert matched(tmp_path, ["1.jpg", "1.jpg.png"], ["1.jpg.png", "1.jpg.png.png"]) == {
        "1.jpg": "1.jpg.png",
        "1.jpg.png": "1.jpg.png.png",
    }


@pytest.mark.parametrize("masks", [["1.png", "1.tif"], ["1.jpg.png", "1.png"]])
def test_two_masks_for_one_photo_are_refused(tmp_path, masks):
    with pytest.raises(MaskError, match=r"1\.jpg has two masks.*Keep one"):
        find_pairs(*lay(tmp_path, ["1.jpg"], masks))


def test_one_mask_for_two_photos_is_refused(tmp_path):
    with pytest.raises(MaskError, match=r"fits 2 photos, 1\.bmp and 1\.jpg.*1\.bmp\.png"):
        find_pairs(*lay(tmp_path, ["1.jpg", "1.bmp"], ["1.png"]))


def test_lossy_files_in_the_masks_folder_are_orphans(tmp_path):
    scan = find_pairs(*lay(tmp_path, ["1.jpg"], ["1.png", "1.jpg"]))
    assert [pair.mask.name for pair in scan.pairs] == ["1.png"]
    assert [path.name for path in scan.orphan_masks] == ["1.jpg"]


@pytest.mark.parametrize(
    ("masks", "hint"),
    [
        ([], "holds no image at all"),
        (["1.jpg"], r"holds \.jpg files only; masks must be PNG"),
        (["other.png"], r"holds other\.png"),
    ],
)
def test_no_match_says_what_was_looked_for(tmp_path, masks, hint):
    with pytest.raises(DataError, match=rf"looked for 1\.jpg\.png and 1\.png\. It {hint}"):
        find_pairs(*lay(tmp_path, ["1.jpg"], masks))


def test_masks_below_the_photos_folder_are_no_photos(tmp_path):
    for name in ["1.png", "masks/1.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    scan = find_pairs(tmp_path, tmp_path / "masks")
    assert [pair.key for pair in scan.pairs] == ["1.png"]
    assert not scan.unmasked


def test_one_folder_for_both_is_refused(tmp_path):
    photos, _ = lay(tmp_path, ["1.jpg"], [])
    with pytest.raises(UsageError, match="give two folders"):
        find_pairs(photos, photos)


def test_a_missing_folder_is_a_usage_error(tmp_path):
    photos, masks = lay(tmp_path, ["1.jpg"], ["1.png"])
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        find_pairs(tmp_path / "nowhere", masks)
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        find_pairs(photos, tmp_path / "nowhere")


def test_load_pair_checks_the_size(tmp_path):
    write_pair(tmp_path, "1.png", ids_with(target=2))
    (pair,) = find_pairs(tmp_path / "photos", tmp_path / "masks").pairs
    photo, ids = load_pair(pair, DEFAULT_CLASSES)
    assert photo.shape == (4, 6, 3)
    assert (ids == 1).sum() == 2
    Image.new("RGB", (6, 5)).save(pair.photo)
    with pytest.raises(MaskError, match="6x4 px but its photo is 6x5 px"):
        load_pair(pair, DEFAULT_CLASSES)


@pytest.mark.parametrize("turned", ["photo", "mask"])
def test_photo_and_mask_stand_upright_together(tmp_path, turned):
    ids = ids_with(target=3)
    write_pair(tmp_path, "1.png", ids)
    (pair,) = find_pairs(tmp_path / "photos", tmp_path / "masks").pairs
    photo = np.where(ids[..., None] == 1, 200, 50).astype(np.uint8).repeat(3, axis=2)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    stored = np.ascontiguousarray(np.rot90(photo)) if turned == "photo" else photo
    Image.fromarray(stored).save(pair.photo, **({"exif": exif} if turned == "photo" else {}))
    if turned == "mask":
        Image.fromarray(np.ascontiguousarray(np.rot90(ids))).save(pair.mask, exif=exif)
    rgb, found = load_pair(pair, DEFAULT_CLASSES)
    np.testing.assert_array_equal(rgb, photo)
    np.testing.assert_array_equal(found, ids)


def test_usable_pairs_counts_pixels_and_lists_the_rejected(tmp_path):
    write_pair(tmp_path, "1.png", ids_with(target=3, other=2))
    write_pair(tmp_path, "2.png", ids_with(other=4))
    write_pair(tmp_path, "3.png", ids_with(target=9))
    (tmp_path / "photos" / "3.png").write_bytes(b"broken")
    pairs = find_pairs(tmp_path / "photos", tmp_path / "masks").pairs
    steps: list[tuple[str, int, int]] = []
    found = usable_pairs(pairs, DEFAULT_CLASSES, TARGETS, progress=lambda *s: steps.append(s))
    assert [pair.key for pair in found.usable] == ["1.png", "2.png"]
    assert (found.pixels.of("crack"), found.pixels.of("pore")) == (3, 6)
    assert found.pixels.total == 48
    assert found.with_target == 1
    ((rejected),) = found.rejected
    assert rejected.path.name == "3.png"
    assert "not a readable" in rejected.reason
    assert [step[1:] for step in steps] == [(1, 3), (2, 3), (3, 3)]


def test_no_usable_pair_names_the_first_reason(tmp_path):
    write_pair(tmp_path, "1.png", ids_with(target=3))
    (tmp_path / "photos" / "1.png").write_bytes(b"broken")
    pairs = find_pairs(tmp_path / "photos", tmp_path / "masks").pairs
    with pytest.raises(DataError, match=r"none of 1 pairs .* can be used\. The first: cannot read"):
        usable_pairs(pairs, DEFAULT_CLASSES, TARGETS)


def test_masks_without_the_target_name_what_they_hold(tmp_path):
    write_pair(tmp_path, "1.png", ids_with(other=5))
    pairs = find_pairs(tmp_path / "photos", tmp_path / "masks").pairs
    with pytest.raises(
        DataError, match=r"no mask holds the target class crack \(id 1\): .*5 px pore.*--target"
    ):
        usable_pairs(pairs, DEFAULT_CLASSES, TARGETS)


def test_a_photo_that_vanished_is_an_image_error(tmp_path):
    write_pair(tmp_path, "1.png", ids_with(target=3))
    (pair,) = find_pairs(tmp_path / "photos", tmp_path / "masks").pairs
    pair.photo.unlink()
    with pytest.raises(ImageError, match="No such file"):
        load_pair(pair, DEFAULT_CLASSES)
