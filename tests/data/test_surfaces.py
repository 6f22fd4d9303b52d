from __future__ import annotations

import itertools
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from finicky.data.surfaces import SurfaceStyle, make_surface, write_surfaces
from finicky.data.surfaces.cracks import draw_cracks
from finicky.data.surfaces.noise import power_law
from finicky.data.surfaces.paths import CrackPath
from finicky.errors import UsageError
from finicky.masks import read_mask

CRACK, PORE, DIRT, BACKGROUND = 1, 2, 3, 4
SEEDS = range(24)
ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def cracked():
    """The same 24 surfaces for every test that measures them, all with a crack."""
    return [make_surface(seed, crack=True) for seed in SEEDS]


def grey(photo: np.ndarray) -> np.ndarray:
    return photo.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def spectrum_slope(photo: np.ndarray) -> float:
    """Slope of the log power over the log frequency, 0.02 to 0.35 cycles a px, in 12 rings."""
    plane = grey(photo)
    side = min(plane.shape)
    window = np.hanning(side)
    plane = (plane[:side, :side] - plane[:side, :side].mean()) * np.outer(window, window)
    power = np.abs(np.fft.rfft2(plane)) ** 2
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    edges = np.geomspace(0.02, 0.35, 13)
    rings = [power[(frequency >= a) & (frequency < b)].mean() for a, b in itertools.pairwise(edges)]
    return float(np.polyfit(np.log(np.sqrt(edges[:-1] * edges[1:])), np.log(rings), 1)[0])


def contrast(photo: np.ndarray) -> float:
    """Spread of the grey between structures of 1 and 8 px, in levels."""
    plane = grey(photo)
    return float((plane - ndimage.gaussian_filter(plane, 8)).std())


def best_threshold_f1(surfaces) -> float:
    dark, rest = np.zeros(256), np.zeros(256)
    for surface in surfaces:
        level, crack = grey(surface.photo).astype(int), surface.mask == CRACK
        dark += np.bincount(level[crack], minlength=256)
        rest += np.bincount(level[~crack], minlength=256)
    found, wrong = np.cumsum(dark), np.cumsum(rest)
    return float((2 * found / (found + wrong + dark.sum())).max())


def local_widths(mask: np.ndarray) -> np.ndarray:
    """Width in px at the ridge of every crack, from the distance to its edge."""
    inside = np.pad(mask == CRACK, 1)
    distance = ndimage.distance_transform_edt(inside)
    ridge = inside & (distance == ndimage.maximum_filter(distance, 3))
    return 2 * distance[ridge] - 1


def test_the_same_seed_gives_the_same_bytes():
    first, second = make_surface(7), make_surface(7)
    assert first.photo.tobytes() == second.photo.tobytes()
    assert first.mask.tobytes() == second.mask.tobytes()
    assert (first.seed, first.has_crack) == (second.seed, second.has_crack)


def test_a_fresh_process_gives_the_same_bytes_whatever_was_drawn_before():
    code = (
        "import hashlib; from finicky.data.surfaces import make_surface\n"
        "for seed in {}: surface = make_surface(seed, width=96, height=64)\n"
        "print(hashlib.sha256(surface.photo.tobytes() + surface.mask.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code.format(seeds)], check=True, capture_output=True, text=True
        ).stdout
        for seeds in ([5], [3, 4, 5])
    }
    assert len(digests) == 1


def test_different_seeds_give_different_photos(cracked):
    assert len({surface.photo.tobytes() for surface in cracked}) == len(cracked)


def test_photo_and_mask_have_the_size_and_type_asked_for():
    surface = make_surface(1, width=101, height=67)
    assert surface.photo.shape == (67, 101, 3)
    assert surface.mask.shape == (67, 101)
    assert surface.photo.dtype == surface.mask.dtype == np.uint8


def test_masks_label_every_pixel_and_each_class_occurs(cracked):
    seen = {int(value) for surface in cracked for value in np.unique(surface.mask)}
    assert seen == {CRACK, PORE, DIRT, BACKGROUND}
    assert all((surface.mask == BACKGROUND).mean() > 0.5 for surface in cracked)


def test_crack_argument_decides_whether_there_is_one(cracked):
    assert all(surface.has_crack and (surface.mask == CRACK).any() for surface in cracked)
    for seed in SEEDS:
        clean = make_surface(seed, width=160, height=120, crack=False)
        assert not clean.has_crack
        assert not (clean.mask == CRACK).any()


def test_crack_probability_is_the_share_of_cracked_surfaces():
    for probability, expected in ((0.0, 0), (1.0, len(SEEDS))):
        style = SurfaceStyle(crack_probability=probability)
        small = [make_surface(seed, width=64, height=64, style=style) for seed in SEEDS]
        assert sum(surface.has_crack for surface in small) == expected
    drawn = [make_surface(seed, width=32, height=32).has_crack for seed in range(100)]
    assert 45 <= sum(drawn) <= 75  # 60 expected, three standard deviations of a coin of 0.6


def test_with_and_without_a_crack_differ_in_the_crack_alone(cracked):
    for surface in cracked[:6]:
        clean = make_surface(surface.seed, crack=False)
        outside = surface.mask != CRACK
        np.testing.assert_array_equal(surface.mask[outside], clean.mask[outside])
        # 40 px: beyond the lips of the crack, the blur and the sharpening. A stretch too thin
        # for the mask may still darken a pixel by a level or two; most of the photo is untouched.
        far = ndimage.distance_transform_edt(outside) > 40
        same = (surface.photo == clean.photo).all(axis=-1)
        assert same[far].mean() > 0.995


def test_crack_pixels_are_darker_than_their_neighbourhood(cracked):
    differences = []
    for surface in cracked:
        crack, plane = surface.mask == CRACK, grey(surface.photo)
        away = ndimage.distance_transform_edt(~crack)
        ring = (away > 3) & (away <= 12) & (surface.mask == BACKGROUND)
        differences.append(plane[crack].mean() - plane[ring].mean())
    assert max(differences) < -3  # in levels of 255
    assert np.mean(differences) < -15


def test_cracks_come_thin_and_wide(cracked):
    widths = np.concatenate([local_widths(surface.mask) for surface in cracked])
    assert (widths <= 2).mean() > 0.2
    assert (widths >= 4).mean() > 0.02


def test_a_straight_crack_covers_the_pixels_it_should():
    x = np.arange(-5, 45, 0.25)
    path = CrackPath(np.column_stack([x, np.full(len(x), 16.0)]), np.full(len(x), 4.0))
    layer = draw_cracks(np.random.default_rng(0), (32, 40), [path], SurfaceStyle())
    # Rows 14 to 17 lie within 2 px of y = 16; the ragged edge may add or take up to 1 px.
    assert layer.inside[15:17].all()
    assert not layer.inside[:12].any()
    assert not layer.inside[20:].any()
    assert 3.0 <= layer.inside.sum(axis=0).mean() <= 5.0


def test_a_crack_thinner_than_a_pixel_stays_in_the_mask_without_gaps():
    x = np.arange(0, 40, 0.25)
    # On the border of two rows it covers each of them by less than half.
    path = CrackPath(np.column_stack([x, np.full(len(x), 16.0)]), np.full(len(x), 0.8))
    layer = draw_cracks(np.random.default_rng(0), (32, 40), [path], SurfaceStyle())
    assert layer.inside[14:18].any(axis=0).all()
    assert layer.inside.sum() <= 2 * 40


def test_a_crack_that_has_closed_up_is_not_in_the_mask():
    x = np.arange(0, 40, 0.25)
    path = CrackPath(np.column_stack([x, np.full(len(x), 16.0)]), np.where(x < 20, 3.0, 0.0))
    layer = draw_cracks(np.random.default_rng(0), (32, 40), [path], SurfaceStyle())
    assert layer.inside[:, :20].any(axis=0).all()
    assert not layer.inside[:, 24:].any()
    np.testing.assert_array_equal(layer.light[:, 24:], 1)


def test_formwork_lines_change_the_photo_and_never_the_mask():
    bare, lined = SurfaceStyle(formwork_probability=0.0), SurfaceStyle(formwork_probability=1.0)
    for seed in range(6):
        plain = make_surface(seed, width=200, height=150, style=bare, crack=True)
        ruled = make_surface(seed, width=200, height=150, style=lined, crack=True)
        np.testing.assert_array_equal(plain.mask, ruled.mask)
        assert (plain.photo != ruled.photo).any()


def test_a_threshold_does_not_find_the_cracks(cracked):
    assert 0.1 < best_threshold_f1(cracked) < 0.6


def test_grain_follows_the_spectrum_of_real_concrete(cracked):
    # 5th to 95th percentile measured on road (-1.6 to -0.8), pavement (-2.9 to -1.6) and
    # concrete photographs (-3.9 to -2.0), by the same function.
    slopes = [spectrum_slope(surface.photo) for surface in cracked]
    assert min(slopes) > -3.9
    assert max(slopes) < -0.5
    assert -3.0 < np.median(slopes) < -1.2


@pytest.mark.real_data
def test_spectrum_and_contrast_lie_among_those_of_real_photographs(cracked):
    files = [
        path
        for folder in ("cfd/images", "crack500/images", "metu/crack", "metu/background")
        for path in sorted((REAL / folder).glob("*.jpg"))[::30]
    ]
    if not files:
        pytest.skip(f"no photographs in {REAL}")
    real = [np.asarray(Image.open(path).convert("RGB")) for path in files]
    for measure in (spectrum_slope, contrast):
        low, high = np.percentile([measure(photo) for photo in real], [2, 98])
        inside = [low <= measure(surface.photo) <= high for surface in cracked]
        assert np.mean(inside) >= 0.9


def test_power_law_noise_has_the_slope_asked_for():
    for slope in (1.0, 2.0, 3.0):
        noise = power_law(np.random.default_rng(0), (256, 256), slope=slope, corner_px=1000)
        measured = spectrum_slope(np.repeat(noise[..., None] * 20, 3, axis=-1))
        assert measured == pytest.approx(-slope, abs=0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 31}, "width must be at least 32 px, got 31"),
        ({"height": 0}, "height must be at least 32 px, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_bad_arguments_give_one_clear_line(arguments, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make_surface(**{"seed": 0, **arguments})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"crack_width_px": (6.0, 1.0)},
            "crack_width_px must run from low to high, got (6.0, 1.0). Did you mean (1.0, 6.0)?",
        ),
        ({"blur_px": 0.5}, "blur_px must be a pair (low, high), got 0.5"),
        ({"crack_probability": 40}, "crack_probability must lie within 0 to 1, got 40"),
        ({"relief": (0.1, float("nan"))}, "relief must lie within 0.01 to 3, got (0.1, nan)"),
    ],
)
def test_bad_styles_give_one_clear_line(values, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        SurfaceStyle(**values)
    with pytest.raises(UsageError):
        replace(SurfaceStyle(), **values)


def test_the_smallest_photo_and_the_thinnest_crack_work():
    style = SurfaceStyle(crack_width_px=(1.0, 1.0), pores_per_megapixel=(0.0, 0.0))
    for seed in range(20):
        surface = make_surface(seed, width=32, height=32, style=style, crack=True)
        assert surface.has_crack
        assert not (surface.mask == PORE).any()


def test_stones_cover_and_stand_out_as_asked():
    """More area of stones, and more difference in tone between them, each show in the photo."""

    def spread(**stones):
        style = SurfaceStyle(
            aggregate_probability=1.0,
            aggregate_radius_px=(5.0, 9.0),
            pores_per_megapixel=(0.0, 0.0),
            deposits_per_megapixel=(0.0, 0.0),
            formwork_probability=0.0,
            **stones,
        )
        photos = [
            make_surface(seed, width=120, height=90, style=style, crack=False).photo
            for seed in range(4)
        ]
        return np.mean([photo.std() / photo.mean() for photo in photos])

    few = spread(aggregate_share=(0.01, 0.01), aggregate_contrast=(0.6, 0.6))
    even = spread(aggregate_share=(2.0, 2.0), aggregate_contrast=(0.05, 0.05))
    bold = spread(aggregate_share=(2.0, 2.0), aggregate_contrast=(0.6, 0.6))
    assert bold > 1.5 * max(few, even)


def test_extreme_styles_draw_without_a_warning():
    style = SurfaceStyle(
        crack_width_px=(20.0, 40.0),
        crack_count=(3, 3),
        alligator_probability=1.0,
        pores_per_megapixel=(5000.0, 5000.0),
        pore_radius_px=(0.7, 60.0),
        deposits_per_megapixel=(900.0, 900.0),
        deposit_radius_px=(3.0, 300.0),
        aggregate_probability=1.0,
        formwork_probability=1.0,
        shadow_probability=1.0,
    )
    for seed in range(4):
        assert make_surface(seed, width=90, height=50, style=style, crack=True).has_crack


def test_written_surfaces_are_the_ones_that_make_surface_draws(tmp_path):
    told = []
    out = tmp_path / "Brücke nord"
    written = write_surfaces(
        out, 3, seed=2, width=64, height=48, progress=lambda *event: told.append(event)
    )
    assert [path.name for path in written.photos] == ["0000.jpg", "0001.jpg", "0002.jpg"]
    assert [path.name for path in written.masks] == [f"{p.name}.png" for p in written.photos]
    assert written.seeds == (2_000_000, 2_000_001, 2_000_002)
    assert told == [("surfaces", n, 3) for n in (1, 2, 3)]
    for number, seed in enumerate(written.seeds):
        surface = make_surface(seed, width=64, height=48)
        assert written.has_crack[number] == surface.has_crack
        with Image.open(written.masks[number]) as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.asarray(mask), surface.mask)
        with Image.open(written.photos[number]) as photo:
            error = np.abs(np.asarray(photo).astype(int) - surface.photo)
        assert error.mean() < 6  # what JPEG at quality 92 loses, in levels
    assert {path.name for path in out.iterdir()} == {"photos", "masks"}


def test_a_written_mask_reads_back_with_the_project_s_reader(tmp_path):
    from finicky.classes import DEFAULT_CLASSES

    written = write_surfaces(tmp_path, 1, width=64, height=48)
    ids = read_mask(written.masks[0], DEFAULT_CLASSES)
    np.testing.assert_array_equal(ids, make_surface(0, width=64, height=48).mask)


def test_writing_needs_a_count_a_seed_and_an_empty_folder(tmp_path):
    with pytest.raises(UsageError, match=r"^count must be 1 to 1000000, got 0$"):
        write_surfaces(tmp_path, 0)
    with pytest.raises(UsageError, match=r"^seed must be 0 or more, got -3$"):
        write_surfaces(tmp_path, 1, seed=-3)
    write_surfaces(tmp_path, 1, width=32, height=32)
    with pytest.raises(UsageError, match=r"photos already holds files.*Choose an empty folder"):
        write_surfaces(tmp_path, 1, width=32, height=32)


def test_the_how_to_runs(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "surfaces.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "surfaces.md", "exec"), {})
    assert len(list((tmp_path / "surfaces" / "photos").glob("*.jpg"))) == 20
