"""Regions, middle lines and outlines against scikit-image and against shapes counted by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from skimage.measure import label

from finicky.edge.components import label_regions
from finicky.edge.lengths import lengths
from finicky.edge.outlines import outlines
from finicky.edge.regions import find_regions
from finicky.edge.scan import plan
from finicky.edge.skeleton import skeleton


def random_masks():
    rng = np.random.default_rng(0)
    for _ in range(120):
        yield rng.random(rng.integers(1, 40, 2)) < rng.random()


@pytest.mark.parametrize("diagonal", [True, False])
def test_labels_are_those_of_scikit_image(diagonal):
    for mask in random_masks():
        labels, count = label_regions(mask, diagonal=diagonal)
        theirs, number = label(mask, connectivity=2 if diagonal else 1, return_num=True)
        assert count == number
        np.testing.assert_array_equal(labels, theirs)


def test_thinning_keeps_every_region_in_one_piece_and_inside():
    for mask in random_masks():
        lines = skeleton(mask)
        assert not (lines & ~mask).any()
        assert label(lines, connectivity=2).max() == label(mask, connectivity=2).max()


def area(ring):
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))


def test_outlines_enclose_just_the_mask():
    for mask in random_masks():
        polygons = outlines(mask)
        assert len(polygons) == label(mask, connectivity=1).max()
        assert all(area(p[0]) > 0 and all(area(hole) < 0 for hole in p[1:]) for p in polygons)
        assert sum(area(ring) for p in polygons for ring in p) == 2 * mask.sum()


def test_the_outline_of_a_ring_has_a_hole():
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    ((outer, hole),) = outlines(mask)
    assert sorted(set(outer)) == [(0, 0), (0, 3), (3, 0), (3, 3)]
    assert sorted(set(hole)) == [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["#####"], 5),
        (["#", "#", "#"], 3),
        (["#"], 1),
        (["#..", ".#.", "..#"], 2 * 2**0.5 + 1),
        (["#..", "##.", ".##", "..#"], 2 * 2**0.5 + 1),  # corners of stairs are cut
    ],
)
def test_lengths_are_counted_as_said(rows, expected):
    mask = np.array([[c == "#" for c in row] for row in rows])
    labels, count = label_regions(mask)
    found = lengths(labels, count)
    assert found[0] == pytest.approx(expected, abs=0.5)


def test_measures_of_a_bar_in_px():
    place = plan(80, 40, tile=16, stride=8, cell=4.0)
    scores = np.zeros(place.shape, np.float32)
    scores[3:5, 2:12] = 0.5
    scores[3, 2] = 0.9
    labels, (region,) = find_regions(scores, place, high=0.6, low=0.4)
    assert (labels > 0).sum() == 20
    assert (region.x, region.y, region.width, region.height) == (8, 12, 40, 8)
    assert region.area_px == 320
    assert region.score_max == pytest.approx(0.9)
    assert 32 <= region.length_px <= 40
    assert region.mean_width_px == pytest.approx(320 / region.length_px)
    assert region.orientation_deg % 180 == pytest.approx(0)


def test_a_region_needs_the_high_threshold_and_the_area():
    place = plan(64, 64, tile=16, stride=8, cell=4.0)
    scores = np.zeros(place.shape, np.float32)
    scores[2, 2:6] = 0.5  # never high
    scores[8, 2:6] = 0.7
    scores[12, 2] = 0.9  # small
    _, found = find_regions(scores, place, high=0.6, low=0.4, min_area=32)
    assert [region.y for region in found] == [32]
    labels, found = find_regions(scores * 0, place, high=0.6, low=0.4)
    assert not found
    assert not labels.any()


def test_cells_at_the_border_count_with_what_lies_in_the_photo():
    place = plan(18, 10, tile=8, stride=4, cell=4.0)
    _, (region,) = find_regions(np.ones(place.shape, np.float32), place, high=0.5, low=0.5)
    assert region.area_px == 180
    assert (region.width, region.height) == (18, 10)


@pytest.mark.parametrize(("step", "expected"), [((-1, 1), 45), ((1, 1), 135), ((1, 0), 90)])
def test_orientation_is_measured_from_lying_upwards(step, expected):
    place = plan(40, 40, tile=8, stride=4, cell=1.0)
    scores = np.zeros(place.shape, np.float32)
    for k in range(-9, 10):
        scores[20 + k * step[0], 20 + k * step[1]] = 1
    _, (region,) = find_regions(scores, place, high=0.5, low=0.5)
    assert region.orientation_deg == pytest.approx(expected, abs=1e-6)
