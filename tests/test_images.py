"""The image reader: upright 8-bit RGB or an `ImageError`, for every kind of file."""

from __future__ import annotations

import csv
import os
import socket
import struct
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finicky import images
from finicky.errors import DataError, ImageError, UsageError
from finicky.images import image_size, list_images, read_image, resize_image

HOSTILE = Path(__file__).parents[2] / "shared" / "data" / "hostile_images"

# Three by two blocks of 16 px, no two alike: every turn and flip of it differs.
COLORS = np.array(
    [
        [[250, 10, 10], [10, 250, 10], [10, 10, 250]],
        [[250, 250, 10], [10, 10, 10], [240, 240, 240]],
    ],
    np.uint8,
)
UPRIGHT = COLORS.repeat(16, axis=0).repeat(16, axis=1)

# How an upright image lies in a file of each orientation (EXIF 2.32, tag 0x0112).
STORED = {
    1: lambda u: u,
    2: np.fliplr,
    3: lambda u: np.rot90(u, 2),
    4: np.flipud,
    5: lambda u: u.swapaxes(0, 1),
    6: lambda u: np.rot90(u, 1),
    7: lambda u: np.rot90(u, 2).swapaxes(0, 1),
    8: lambda u: np.rot90(u, -1),
}


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)


def orientation_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".jpg", {"quality": 100, "subsampling": 0}),
        (".png", {}),
        (".tif", {}),
        (".tiff", {"compression": "tiff_lzw"}),
        (".webp", {"lossless": True}),
    ],
)
@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255])
def test_every_orientation_comes_out_upright(tmp_path, suffix, options, orientation):
    if suffix == ".tiff" and orientation not in STORED:
        pytest.skip("libtiff does not write orientations that do not exist")
    stored = STORED.get(orientation, STORED[1])(UPRIGHT)
    path = save(tmp_path / f"p{suffix}", stored, exif=orientation_exif(orientation), **options)
    rgb = read_image(path)
    assert rgb.shape == UPRIGHT.shape
    np.testing.assert_allclose(rgb.astype(int), UPRIGHT, atol=4 if suffix == ".jpg" else 0)
    assert image_size(path) == (48, 32)


def test_orientation_behind_the_pixels_of_a_png_counts(tmp_path):
    path = save(tmp_path / "p.png", STORED[6](UPRIGHT))
    content = path.read_bytes()
    end = content.rindex(b"IEND") - 4
    exif = orientation_exif(6).tobytes().removeprefix(b"Exif\x00\x00")
    path.write_bytes(content[:end] + png_chunk(b"eXIf", exif) + content[end:])
    np.testing.assert_array_equal(read_image(path), UPRIGHT)
    assert image_size(path) == (48, 32)


def test_image_size_of_a_png_does_not_decode_it(tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(png_header(640, 480) + png_chunk(b"IDAT", b"not pixels"))
    assert image_size(path) == (640, 480)
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


def test_result_is_writable_rgb_bytes(tmp_path):
    rgb = read_image(save(tmp_path / "p.png", UPRIGHT))
    assert rgb.dtype == np.uint8
    assert rgb.flags.writeable
    assert rgb.flags.c_contiguous


def test_full_range_16_bit_grey_keeps_256_levels(tmp_path):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    rgb = read_image(save(tmp_path / "p.png", ramp))
    np.testing.assert_array_equal(rgb[..., 0], np.rint(ramp / 257))
    assert (rgb == rgb[..., :1]).all()


@pytest.mark.parametrize(
    ("brightest", "white"), [(200, 255), (700, 1023), (4000, 4095), (9000, 16383), (16384, 65535)]
)
def test_grey_is_scaled_by_the_smallest_bit_depth_that_holds_it(tmp_path, brightest, white):
    path = save(tmp_path / "p.tif", np.array([[0, brightest // 2, brightest]], np.uint16))
    expected = np.rint(np.array([0, brightest // 2, brightest]) * 255 / white)
    np.testing.assert_array_equal(read_image(path)[0, :, 1], expected)


def test_big_endian_16_bit_grey_is_read_in_its_own_byte_order(tmp_path):
    path = save(tmp_path / "p.tif", np.array([[0, 0x0101, 0xFFFF]], ">u2"))
    with Image.open(path) as image:
        assert image.mode == "I;16B"
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 255]


def test_32_bit_integers_beyond_16_bits_are_stretched(tmp_path):
    path = save(tmp_path / "p.tif", np.array([[-1000, 0, 1000]], np.int32))
    assert read_image(path)[0, :, 0].tolist() == [0, 128, 255]


def test_constant_values_beyond_16_bits_become_black(tmp_path):
    path = save(tmp_path / "p.tif", np.full((2, 2), 70000, np.int32))
    assert (read_image(path) == 0).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 127.6, 255], [0, 128, 255]),
        ([-2, 0, 2], [0, 128, 255]),
        ([0, 0, 1e6], [0, 0, 255]),
    ],
)
def test_float_images_follow_the_documented_rule(tmp_path, values, expected):
    path = save(tmp_path / "p.tif", np.array([values], np.float32))
    assert read_image(path)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_float_images_with_nan_or_infinity_are_refused(tmp_path, bad):
    path = save(tmp_path / "p.tif", np.array([[0, bad]], np.float32))
    with pytest.raises(ImageError, match="NaN or infinite"):
        read_image(path)


def test_transparency_is_composed_on_white(tmp_path):
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [200, 100, 0, 128]]], np.uint8)
    rgb = read_image(save(tmp_path / "p.png", rgba))
    np.testing.assert_allclose(
        rgb[0].astype(int), [[255, 255, 255], [0, 0, 0], [227, 177, 127]], atol=1
    )


def test_grey_with_alpha_is_composed_on_white(tmp_path):
    path = tmp_path / "p.png"
    Image.merge("LA", [Image.new("L", (2, 2), 0), Image.new("L", (2, 2), 0)]).save(path)
    assert (read_image(path) == 255).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_a_transparent_value_becomes_white(tmp_path, mode):
    path = tmp_path / "p.png"
    clear = (1, 2, 3) if mode == "RGB" else 7
    image = Image.new(mode, (2, 1), 0)
    image.putpixel((0, 0), clear)
    image.save(path, transparency=clear)
    assert read_image(path)[0].tolist() == [[255, 255, 255], [0, 0, 0]]


@pytest.mark.parametrize(("transparency", "expected"), [(None, [9, 8, 7]), (0, [255, 255, 255])])
def test_palettes_are_resolved_with_and_without_transparency(tmp_path, transparency, expected):
    path = tmp_path / "p.png"
    image = Image.new("P", (2, 1), 0)
    image.putpalette([9, 8, 7, 60, 50, 40])
    image.putpixel((1, 0), 1)
    image.save(path, **({} if transparency is None else {"transparency": transparency}))
    assert read_image(path)[0].tolist() == [expected, [60, 50, 40]]


def test_one_bit_images_become_black_and_white(tmp_path):
    path = save(tmp_path / "p.png", np.array([[True, False]]))
    assert read_image(path)[0].tolist() == [[255, 255, 255], [0, 0, 0]]


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("YCbCr", (76, 85, 255), [254, 0, 0]),
        # sRGB red under D50 is L*a*b* (54.3, 80.8, 69.9), held as (255/100 L*, a* + 128, b* + 128).
        ("LAB", (138, 209, 198), [255, 0, 0]),
    ],
)
def test_print_and_video_colours_become_rgb(tmp_path, mode, color, expected):
    path = tmp_path / "p.tif"
    Image.new(mode, (8, 8), color).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    np.testing.assert_allclose(read_image(path)[0, 0].astype(int), expected, atol=6)


def test_an_animation_gives_its_first_frame(tmp_path):
    path = tmp_path / "p.gif"
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in range(1, 250)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    started = time.perf_counter()
    assert (read_image(path) == [1, 0, 0]).all()
    assert time.perf_counter() - started < 0.5


def test_a_file_of_many_pages_gives_its_first(tmp_path):
    path = tmp_path / "p.tif"
    pages = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in range(1, 200)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    started = time.perf_counter()
    assert (read_image(path) == [1, 0, 0]).all()
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp", ".gif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_files_are_refused(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = save(tmp_path / f"p{suffix}", noise)
    read_image(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError):
        read_image(path)


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (10_000, 5_001), (2**31 - 1, 1)])
def test_bombs_are_refused_from_the_header(tmp_path, width, height):
    path = tmp_path / "p.png"
    path.write_bytes(png_header(width, height) + png_chunk(b"IDAT", b"x"))
    started = time.perf_counter()
    with pytest.raises(ImageError, match=r"pixels.*smaller images"):
        read_image(path)
    with pytest.raises(ImageError):
        image_size(path)
    assert time.perf_counter() - started < 0.2


def test_max_pixels_is_the_largest_size_allowed(tmp_path):
    path = save(tmp_path / "p.png", UPRIGHT)
    assert read_image(path, max_pixels=48 * 32).shape == (32, 48, 3)
    with pytest.raises(ImageError, match="48x32 = 1536 pixels, more than 1535") as refused:
        read_image(path, max_pixels=48 * 32 - 1)
    assert refused.value.remedies[1] == "raise max_pixels if you trust the file"
    # Above Pillow's own ceiling that would not help.
    path.write_bytes(png_header(60_000, 60_000) + png_chunk(b"IDAT", b"x"))
    with pytest.raises(ImageError, match="more pixels than Pillow decodes") as refused:
        read_image(path, max_pixels=10**10)
    assert refused.value.remedies == ("cut it into smaller images",)


def test_pillows_own_settings_stay_untouched(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    filters = list(warnings.filters)
    read_image(save(tmp_path / "p.png", UPRIGHT))
    with pytest.raises(ImageError):
        read_image(tmp_path / "missing.png")
    assert before == Image.MAX_IMAGE_PIXELS
    assert warnings.filters == filters


def test_overlapping_readers_leave_the_warning_filters_as_they_were(tmp_path):
    path = save(tmp_path / "p.png", np.zeros((300, 300, 3), np.uint8))
    filters = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [read_image(path) for _ in range(20)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == filters


def test_the_content_decides_not_the_suffix(tmp_path):
    path = save(tmp_path / "p.jpg", UPRIGHT, format="PNG")
    np.testing.assert_array_equal(read_image(path), UPRIGHT)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"x", "not a readable JPEG"),
        (b"<!DOCTYPE html><html></html>", "it is a web page"),
        (b"\n<HTML>", "it is a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"Git LFS pointer.*git lfs pull"),
        (b"\x00\x00\x00\x20ftypheic\x00\x00\x00\x00", "HEIC or AVIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable JPEG"),
        (b"8BPS\x00\x01", "not a readable JPEG"),
    ],
)
def test_files_that_are_no_image_are_named_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"cannot read .*photo\.jpg: .*{reason}"):
        read_image(path)
    with pytest.raises(ImageError):
        image_size(path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file kinds")
@pytest.mark.timeout(5)
def test_special_files_are_refused_without_hanging(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may be 100 bytes long at most
    os.mkfifo("fifo.jpg")
    Path("folder.jpg").mkdir()
    Path("loop.jpg").symlink_to("loop.jpg")
    Path("broken.jpg").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        for name in ["fifo.jpg", "folder.jpg", "socket.jpg", "/dev/zero"]:
            with pytest.raises(ImageError, match="not a regular file"):
                read_image(Path(name))
    for name, reason in [("loop.jpg", "symbolic link"), ("broken.jpg", "No such file")]:
        with pytest.raises(ImageError, match=reason):
            read_image(Path(name))
    with pytest.raises(ImageError):
        read_image(Path("a\0b.jpg"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids such names")
@pytest.mark.parametrize("name", ["a\nb.jpg", "a\x1b[31m.jpg", "\udcff.jpg", "'\";`$(x).jpg"])
def test_odd_names_stay_on_one_printable_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"x")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).isprintable()
    path.unlink()
    np.testing.assert_array_equal(read_image(save(path, UPRIGHT, format="PNG")), UPRIGHT)


def test_accents_in_names_stay_readable(tmp_path):
    path = tmp_path / "żółta ściana.jpg"
    path.write_bytes(b"x")
    with pytest.raises(ImageError, match=r"żółta ściana\.jpg: "):
        read_image(path)


def test_damaged_metadata_does_not_cost_the_photo(tmp_path):
    path = save(
        tmp_path / "p.jpg", UPRIGHT, quality=95, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"
    )
    assert read_image(path).shape == UPRIGHT.shape


def test_too_little_memory_is_said(tmp_path, monkeypatch):
    def fail(_: Image.Image) -> Image.Image:
        raise MemoryError

    path = save(tmp_path / "p.png", UPRIGHT)
    monkeypatch.setattr(images, "_as_rgb", fail)
    with pytest.raises(ImageError, match="not enough memory"):
        read_image(path)


def hostile_files() -> list[str]:
    if not HOSTILE.is_dir():
        return []
    with (HOSTILE / "MANIFEST.csv").open(encoding="utf-8", newline="") as stream:
        return [row["file"] for row in csv.DictReader(stream)]


@pytest.mark.real_data
def test_every_hostile_file_is_an_array_or_an_image_error():
    files = hostile_files()
    if not files:
        pytest.skip("no folder ../shared/data/hostile_images beside the checkout")
    read, slowest = set(), 0.0
    for name in files:
        started = time.perf_counter()
        try:
            rgb = read_image(HOSTILE / name)
            assert rgb.dtype == np.uint8
            assert image_size(HOSTILE / name) == (rgb.shape[1], rgb.shape[0]), name
            read.add(name)
        except ImageError as error:
            assert Path(name).name in str(error)
            assert str(error).isprintable()
        slowest = max(slowest, time.perf_counter() - started)
    assert slowest < 5
    cut = {name for name in files if "/trunc_" in name}
    assert cut
    assert not cut & read
    good = {name for name in files if "pngsuite__" in name and "pngsuite__x" not in name}
    assert good
    assert good <= read


@pytest.mark.real_data
def test_the_hostile_16_bit_image_is_not_saturated():
    path = HOSTILE / "made" / "gray16_full_range.png"
    if not path.exists():
        pytest.skip("no folder ../shared/data/hostile_images beside the checkout")
    grey = read_image(path)[..., 0]
    assert len(np.unique(grey)) >= 250
    assert (grey == 255).mean() < 0.01


def test_list_images_sorts_by_relative_path_and_skips_what_is_no_photo(tmp_path):
    for name in ["b/2.JPG", "b/10.png", "a.tiff", "Z.webp", "é.bmp", ".hidden.jpg", "._a.jpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ["Thumbs.db", "notes.txt", "b/photo.jpg.tmp", "noext"]:
        (tmp_path / name).touch()
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "x.jpg").touch()
    keys = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert keys == ["Z.webp", "a.tiff", "b/10.png", "b/2.JPG", "é.bmp"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_list_images_follows_only_file_links_that_stay_inside(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "a.jpg").touch()
    (tmp_path / "secret.jpg").touch()
    (root / "inside.jpg").symlink_to("a.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "broken.jpg").symlink_to("nowhere.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "up").symlink_to(tmp_path)
    (root / "again").symlink_to(root)
    assert [path.name for path in list_images(root)] == ["a.jpg", "inside.jpg"]


def test_a_folder_that_is_reached_through_a_link_is_listed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").touch()
    (tmp_path / "link").symlink_to("real")
    assert list_images(tmp_path / "link") == [tmp_path / "link" / "a.jpg"]


def test_a_missing_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="nowhere is not a folder; give"):
        list_images(tmp_path / "nowhere")


def test_an_empty_folder_is_a_data_error_unless_allowed(tmp_path):
    with pytest.raises(DataError, match=r"no image in .*looked for .*\.jpg"):
        list_images(tmp_path)
    assert list_images(tmp_path, allow_empty=True) == []


def test_resize_averages_over_all_source_pixels():
    stripes = np.zeros((4, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_image(stripes, 8, 4)
    assert small.shape == (4, 8, 3)
    assert abs(int(small[0, 4, 0]) - 128) <= 8  # a filter of two taps would give 0 or 255


def test_resize_to_the_same_size_changes_nothing_and_copies():
    same = resize_image(UPRIGHT, 48, 32)
    np.testing.assert_array_equal(same, UPRIGHT)
    assert not np.shares_memory(same, UPRIGHT)


@pytest.mark.parametrize("bad", [UPRIGHT[..., 0], UPRIGHT.astype(np.float32)])
def test_resize_takes_rgb_bytes_only(bad):
    with pytest.raises(UsageError, match="expected"):
        resize_image(bad, 8, 8)


def test_resize_to_nothing_is_refused():
    with pytest.raises(UsageError, match="at least 1 px, got 0 and 5"):
        resize_image(UPRIGHT, 0, 5)
