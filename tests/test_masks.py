"""Masks in and out: class ids survive exactly, anything doubtful is refused with a remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from finicky.classes import DEFAULT_CLASSES, ClassTable, MaskClass
from finicky.errors import ImageError, MaskError, UsageError
from finicky.masks import PixelCounts, count_pixels, read_mask, target_mask, write_mask

PORE_FIRST = ClassTable(
    [
        MaskClass(2, "pore", "#0072B2", "1", "distractor"),
        MaskClass(7, "crack", "#D55E00", "2", "target"),
    ]
)
TWO_TARGETS = ClassTable(
    [
        MaskClass(1, "crack", "#D55E00", "1", "target"),
        MaskClass(2, "spall", "#0072B2", "2", "target"),
    ]
)
IDS = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


def indexed(path: Path, values: np.ndarray, colors: list[tuple[int, int, int]]) -> Path:
    image = Image.fromarray(values)
    image.putpalette([channel for color in colors for channel in color])
    image.save(path)
    return path


@settings(max_examples=30, deadline=None)
@given(
    npst.arrays(
        np.uint8,
        npst.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.sampled_from([0, 1, 2, 3, 4, 255]),
    )
)
def test_what_is_written_is_read_back_exactly(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("m") / "photo.07.jpg.png"
    write_mask(path, ids, DEFAULT_CLASSES)
    np.testing.assert_array_equal(read_mask(path, DEFAULT_CLASSES), ids)


def test_a_written_mask_is_8_bit_indexed_in_the_class_colours(tmp_path):
    path = tmp_path / "deep" / "m.png"
    write_mask(path, IDS, DEFAULT_CLASSES)
    assert path.read_bytes()[24:26] == bytes([8, 3])  # IHDR: 8 bits, palette
    with Image.open(path) as image:
        assert image.convert("RGB").getpixel((1, 0)) == (0xD5, 0x5E, 0x00)
        assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 0)
    assert [p.name for p in path.parent.iterdir()] == ["m.png"]


def test_the_same_mask_is_written_with_the_same_bytes(tmp_path):
    for name in ["a.png", "b.png"]:
        write_mask(tmp_path / name, IDS, DEFAULT_CLASSES)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "bad", [np.array([[9]], np.uint8), np.array([[-1]]), np.array([1]), np.array([[0.5]])]
)
def test_write_mask_refuses_what_is_no_mask(tmp_path, bad):
    with pytest.raises(UsageError, match="mask"):
        write_mask(tmp_path / "m.png", bad, DEFAULT_CLASSES)
    assert not list(tmp_path.iterdir())


def test_the_palette_does_not_change_ids(tmp_path):
    path = indexed(tmp_path / "m.png", IDS[:, :2], [(9, 9, 9)] * 4 + [(200, 0, 0)])
    np.testing.assert_array_equal(read_mask(path, DEFAULT_CLASSES), IDS[:, :2])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_grey_ids_are_read(tmp_path, suffix):
    path = save(tmp_path / f"m{suffix}", IDS)
    np.testing.assert_array_equal(read_mask(path, DEFAULT_CLASSES), IDS)


def test_three_equal_channels_of_ids_are_read(tmp_path):
    path = save(tmp_path / "m.png", IDS[..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(read_mask(path, DEFAULT_CLASSES), IDS)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_wide_integers_of_ids_are_read(tmp_path, dtype):
    path = save(tmp_path / "m.tif", IDS.astype(dtype))
    ids = read_mask(path, DEFAULT_CLASSES)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(ids, IDS)


def test_16_bit_values_beyond_ids_are_refused_not_wrapped(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 257]], np.uint16))  # 257 % 256 is an id
    with pytest.raises(MaskError, match="0, 257"):
        read_mask(path, DEFAULT_CLASSES)


@pytest.mark.parametrize("classes", [DEFAULT_CLASSES, PORE_FIRST])
def test_a_binary_mask_stands_for_the_only_target(tmp_path, classes):
    path = save(tmp_path / "m.png", np.array([[0, 255]], np.uint8))
    (target,) = classes.targets()
    assert read_mask(path, classes).tolist() == [[0, target.id]]


def test_one_bit_masks_stand_for_the_only_target(tmp_path):
    path = save(tmp_path / "m.png", np.array([[False, True]]))
    assert read_mask(path, PORE_FIRST).tolist() == [[0, 7]]


def test_all_white_is_all_target(tmp_path):
    path = save(tmp_path / "m.png", np.full((2, 2), 255, np.uint8))
    assert (read_mask(path, DEFAULT_CLASSES) == 1).all()


def test_zero_and_one_are_ids_where_one_is_a_class_and_binary_otherwise(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 1]], np.uint8))
    assert read_mask(path, DEFAULT_CLASSES).tolist() == [[0, 1]]
    assert read_mask(path, PORE_FIRST).tolist() == [[0, 7]]


def test_255_beside_ids_is_ignore(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 1, 255]], np.uint8))
    assert read_mask(path, DEFAULT_CLASSES).tolist() == [[0, 1, 255]]


def test_255_of_an_indexed_image_is_ignore_unless_it_shows_white(tmp_path):
    values = np.array([[0, 255]], np.uint8)
    grey = [(i, i, i) for i in range(256)]
    path = indexed(tmp_path / "white.png", values, grey)
    assert read_mask(path, DEFAULT_CLASSES).tolist() == [[0, 1]]
    path = indexed(tmp_path / "voc.png", values, [*grey[:255], (224, 224, 192)])
    assert read_mask(path, DEFAULT_CLASSES).tolist() == [[0, 255]]


def test_an_empty_mask_is_all_unlabelled(tmp_path):
    path = save(tmp_path / "m.png", np.zeros((3, 2), np.uint8))
    assert read_mask(path, DEFAULT_CLASSES, size=(2, 3)).tolist() == [[0, 0]] * 3


def test_binary_masks_are_refused_with_two_targets(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 255]], np.uint8))
    with pytest.raises(MaskError, match=r"m\.png is binary.*crack, spall"):
        read_mask(path, TWO_TARGETS)


def test_an_indexed_mask_with_black_ones_may_be_inverted(tmp_path):
    path = indexed(tmp_path / "m.png", np.array([[0, 1]], np.uint8), [(255, 255, 255), (0, 0, 0)])
    with pytest.raises(MaskError, match="inverted"):
        read_mask(path, DEFAULT_CLASSES)


def test_soft_edges_are_refused_with_the_values_found(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = save(tmp_path / "m.png", ramp)
    with pytest.raises(
        MaskError, match=r"has the values 0, 1, 2, .*\.\.\.; expected class ids 0, 1, .*soft edges"
    ):
        read_mask(path, DEFAULT_CLASSES)


def test_a_jpeg_mask_is_refused_with_png_as_remedy(tmp_path):
    binary = np.zeros((32, 32), np.uint8)
    binary[10:13] = 255
    path = save(tmp_path / "m.jpg", binary)
    with pytest.raises(MaskError, match="JPEG changes the values of a mask: save it as PNG"):
        read_mask(path, DEFAULT_CLASSES)


def test_an_unknown_id_is_refused(tmp_path):
    path = save(tmp_path / "m.png", np.array([[0, 1, 9]], np.uint8))
    with pytest.raises(MaskError, match=r"values 0, 1, 9; expected class ids 0, 1, 2, 3, 4 "):
        read_mask(path, DEFAULT_CLASSES)


def test_colour_masks_are_refused(tmp_path):
    path = save(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8))
    with pytest.raises(MaskError, match=r"colour image.*indexed or greyscale PNG"):
        read_mask(path, DEFAULT_CLASSES)


def test_masks_that_live_in_the_alpha_channel_are_refused(tmp_path):
    rgba = np.full((1, 2, 4), 255, np.uint8)
    rgba[0, 0, 3] = 0
    with pytest.raises(MaskError, match="partly transparent"):
        read_mask(save(tmp_path / "m.png", rgba), DEFAULT_CLASSES)
    rgba[..., 3] = 255
    assert (read_mask(save(tmp_path / "m.png", rgba), DEFAULT_CLASSES) == 1).all()


def test_float_masks_with_nan_are_refused(tmp_path):
    path = save(tmp_path / "m.tif", np.array([[0, np.nan]], np.float32))
    with pytest.raises(MaskError, match="0, nan"):
        read_mask(path, DEFAULT_CLASSES)


def test_masks_are_turned_upright_like_photos(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "m.png", np.rot90(IDS), exif=exif)
    np.testing.assert_array_equal(read_mask(path, DEFAULT_CLASSES, size=(3, 2)), IDS)


def test_another_size_than_the_photo_is_refused_with_both(tmp_path):
    path = save(tmp_path / "m.png", IDS)
    with pytest.raises(MaskError, match=r"m\.png is 3x2 px but its photo is 6x4 px"):
        read_mask(path, DEFAULT_CLASSES, size=(6, 4))
    with pytest.raises(MaskError, match="seems to lie on its side"):
        read_mask(path, DEFAULT_CLASSES, size=(2, 3))


def test_an_unreadable_mask_is_an_image_error(tmp_path):
    (tmp_path / "m.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"m\.png"):
        read_mask(tmp_path / "m.png", DEFAULT_CLASSES)


def test_target_mask_takes_only_the_named_classes():
    crack, _, dirt, _ = DEFAULT_CLASSES
    assert target_mask(IDS, [crack]).tolist() == [[False, True, False], [False, False, False]]
    assert target_mask(IDS, [crack, dirt]).sum() == 2
    assert not target_mask(IDS, []).any()


def test_count_pixels_counts_each_class_and_the_rest():
    counts = count_pixels(np.array([[0, 0, 1], [1, 3, 255]], np.uint8), DEFAULT_CLASSES)
    assert counts.by_class == (("crack", 2), ("pore", 0), ("dirt", 1), ("background", 0))
    assert (counts.unlabelled, counts.ignored, counts.total) == (2, 1, 6)
    assert counts.of("crack") == 2
    assert counts.of("nothing of that name") == 0


def test_counts_add_up():
    one = PixelCounts((("crack", 2),), unlabelled=1)
    two = PixelCounts((("crack", 3), ("pore", 4)), ignored=5)
    assert one + two == PixelCounts((("crack", 5), ("pore", 4)), unlabelled=1, ignored=5)
