"""How long regions are: shapes whose length is known, drawn cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from finicky.edge import inspect_photo, open_bundle
from finicky.edge.components import label_regions
from finicky.edge.lengths import lengths
from finicky.edge.skeleton import Grid, closed, depths, skeleton
from finicky.images import read_image

Y, X = np.mgrid[-130:130, -130:130].astype(float)
RADIUS = np.hypot(X, Y)


def measured(mask: np.ndarray) -> float:
    labels, count = label_regions(mask)
    assert count == 1
    return float(lengths(labels, 1)[0])


def turned(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    turn = np.radians(degrees)
    return X * np.cos(turn) + Y * np.sin(turn), -X * np.sin(turn) + Y * np.cos(turn)


def bar(degrees: float, thickness: float, half: float = 100) -> np.ndarray:
    along, across = turned(degrees)
    return (abs(along) <= half) & (abs(across) <= thickness / 2)


@pytest.mark.parametrize("degrees", [0, 10, 22.5, 30, 45, 70, 90])
@pytest.mark.parametrize("thickness", [1.5, 3, 5, 12, 25])
def test_a_bar_is_as_long_as_it_was_drawn(degrees, thickness):
    """Within 2 %, and half the thickness for where the middle line meets a slanted end."""
    assert measured(bar(degrees, thickness)) == pytest.approx(200, abs=4 + thickness / 2)


@pytest.mark.parametrize("thickness", [2, 5, 9])
def test_a_curve_is_as_long_as_its_middle_line(thickness):
    across = (Y - 10 * np.sin(X / 20)) / np.sqrt(1 + (np.cos(X / 20) / 2) ** 2)
    x = np.linspace(-100, 100, 4001)
    true = np.hypot(np.diff(x), np.diff(10 * np.sin(x / 20))).sum()
    assert measured((abs(across) <= thickness / 2) & (abs(X) <= 100)) == pytest.approx(
        true, rel=0.02
    )


@pytest.mark.parametrize("thickness", [1.5, 3, 7, 20])
def test_a_ring_is_a_loop_and_counts_all_around(thickness):
    ring = abs(RADIUS - 60) <= thickness / 2
    assert measured(ring) == pytest.approx(2 * np.pi * 60, rel=0.02)


@pytest.mark.parametrize("radius", [2, 5, 10, 30, 60])
def test_a_disc_is_as_long_as_it_is_wide(radius):
    assert measured(radius >= RADIUS) == pytest.approx(2 * radius, rel=0.11)


@pytest.mark.parametrize("degrees", [0, 30, 45])
@pytest.mark.parametrize(("count", "radius"), [(30, 1.5), (20, 3), (8, 5)])
def test_holes_in_a_wide_bar_make_it_no_longer(degrees, count, radius):
    """Within 7 %. Unfilled, the middle line runs around each hole: up to twice as much."""
    rng = np.random.default_rng(0)
    along, across = turned(degrees)
    mask = bar(degrees, 24)
    for _ in range(count):
        a, c = rng.uniform(-95, 95), rng.uniform(-10, 10)
        mask &= np.hypot(along - a, across - c) > radius
    labels, found = label_regions(mask)
    assert lengths(labels, found).max() == pytest.approx(200, rel=0.07)


@pytest.mark.parametrize(("roughness", "tolerance"), [(0.5, 0.02), (1, 0.03), (2, 0.05)])
def test_a_ragged_border_makes_a_bar_no_longer(roughness, tolerance):
    noise = gaussian_filter(np.random.default_rng(0).normal(size=X.shape), 1.5)
    along, across = turned(20)
    half = 7.5 + roughness * noise / noise.std()
    labels, found = label_regions((abs(along) <= 100) & (abs(across) <= half))
    assert lengths(labels, found).max() == pytest.approx(200, rel=tolerance)


@pytest.mark.parametrize("thickness", [1, 3, 9])
def test_all_arms_of_branching_cracks_count(thickness):
    cross = bar(0, thickness) | bar(90, thickness)
    assert measured(cross) == pytest.approx(400, rel=0.02)
    arm = bar(60, thickness) & (Y < 0)
    assert measured(bar(0, thickness) | arm) == pytest.approx(300, rel=0.02)


def test_a_net_of_cracks_is_not_filled():
    mask = np.zeros((201, 201), bool)
    mask[::20] = mask[:, ::20] = True
    assert measured(mask) == pytest.approx(2 * 11 * 200, rel=0.02)


def test_a_thin_crack_keeps_its_short_branches():
    """Five cells beside a line of one: a branch, not a spur. Two cells are a spur."""
    mask = np.zeros((40, 120), bool)
    mask[20, 10:110] = True
    assert measured(mask) == pytest.approx(100)
    mask[15:20, 60] = True
    assert measured(mask) == pytest.approx(105, abs=1)
    mask[15:19, 60] = False
    assert measured(mask) == pytest.approx(100, abs=1)


def test_regions_beside_each_other_do_not_mix():
    """A speck in a hole of another region stays a region of its own, with its own length."""
    mask = bar(0, 40, half=60)
    mask &= np.hypot(X, Y) > 6
    mask |= (abs(Y) <= 0.5) & (abs(X) <= 2)
    labels, count = label_regions(mask)
    assert count == 2
    found = lengths(labels, count)
    assert found.min() == pytest.approx(5)
    assert found.max() > 110


def test_lengths_do_not_depend_on_what_else_is_there():
    alone = bar(20, 9, half=50)
    labels, _ = label_regions(alone)
    both, count = label_regions(alone | (RADIUS > 125))
    assert lengths(both, count)[both[130, 130] - 1] == lengths(labels, 1)[0]


@pytest.mark.parametrize("thickness", [1.5, 5, 30])
def test_a_region_on_very_many_cells_is_measured_on_coarser_ones(monkeypatch, thickness):
    shape = bar(30, thickness) | bar(-20, thickness)
    fine = measured(shape)
    monkeypatch.setattr("finicky.edge.lengths._LARGEST_SHEET", 10_000)
    coarse = measured(shape)
    assert coarse != fine
    assert coarse == pytest.approx(fine, rel=0.04)


def test_nothing_has_no_length():
    assert lengths(np.zeros((5, 7), np.int32), 0).shape == (0,)
    assert measured(np.ones((1, 1), bool)) == 1


@pytest.mark.real_data
def test_a_wide_crack_in_a_photo_is_not_longer_than_it_looks(real_data):
    """By eye it is 280 px long, with an arm of 30 px; it was once measured as 855 px."""
    rgb = read_image(real_data / "metu" / "crack" / "00163.jpg")
    found = inspect_photo(open_bundle("crack-vgg16"), rgb)
    assert 200 < found.regions[0].length_px < 380


def test_depths_are_distances_within_a_few_percent():
    mask = gaussian_filter(np.random.default_rng(0).random((120, 130)), 4) > 0.5
    true = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    found = depths(mask)
    np.testing.assert_array_equal(found > 0, mask)
    assert (abs(found - true) <= 0.5 + 0.12 * true)[mask].all()


def test_closing_fills_gaps_and_moves_no_border():
    mask = np.zeros((30, 60), bool)
    mask[10:20] = True
    np.testing.assert_array_equal(closed(mask, 4), mask)
    gap = mask.copy()
    gap[:, 30:34] = False
    np.testing.assert_array_equal(closed(gap, 1), gap)
    assert closed(gap, 3)[15, 30:34].all()


def test_a_photo_that_is_all_defect_takes_no_minutes(monkeypatch):
    """Cells are visited a few times each, not once for every layer of the region."""
    visits = []
    original = Grid.codes

    def counting(grid, cells):
        visits.append(len(cells))
        return original(grid, cells)

    monkeypatch.setattr(Grid, "codes", counting)
    mask = np.ones((400, 400), bool)
    assert skeleton(mask).sum() < 500
    assert sum(visits) < 10 * mask.size
