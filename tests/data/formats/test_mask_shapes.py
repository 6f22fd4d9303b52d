"""Polygons and runs: what can be counted by hand, and inverses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finicky.data.formats import runs, shapes
from finicky.errors import DataError

LOOP = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)

masks = st.builds(
    lambda seed, h, w, share: np.random.default_rng(seed).random((h, w)) < share,
    st.integers(0, 2**32 - 1),
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([0.05, 0.3, 0.6, 0.95]),
)


def test_a_square_is_filled_by_its_pixel_centres() -> None:
    square = np.array([[0.4, 0.4], [2.6, 0.4], [2.6, 2.4], [0.4, 2.4]])
    expected = [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert shapes.fill([square], 3, 4).astype(int).tolist() == expected


def test_the_outline_of_a_loop_has_a_hole() -> None:
    rings = shapes.outlines(LOOP)
    assert sorted(len(ring) for ring in rings) == [4, 4]
    np.testing.assert_array_equal(shapes.fill(rings, 3, 4), LOOP)


@given(mask=masks)
@settings(max_examples=60, deadline=None)
def test_outlines_give_back_every_mask(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(shapes.fill(shapes.outlines(mask), *mask.shape), mask)


@given(mask=masks)
@settings(max_examples=60, deadline=None)
def test_one_bridged_ring_gives_back_every_region(mask: np.ndarray) -> None:
    whole = np.zeros_like(mask)
    for part, x, y in shapes.regions(mask):
        ring = shapes.bridged(shapes.outlines(part)) + np.array([x, y])
        whole |= shapes.fill([ring], *mask.shape)
    np.testing.assert_array_equal(whole, mask)


def test_a_simplified_outline_stays_within_its_tolerance() -> None:
    angles = 2 * np.pi * np.arange(200) / 200
    circle = 50 + 40 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    simple = shapes.simplified(circle, 1.0)
    assert len(simple) < 40
    assert np.hypot(*(simple - 50).T) == pytest.approx(40)
    a, b = shapes.fill([circle], 100, 100), shapes.fill([simple], 100, 100)
    assert (a & b).sum() / (a | b).sum() > 0.95


def test_coco_runs_go_down_the_columns() -> None:
    mask = np.array([[0, 1], [1, 1]], bool)
    assert runs.coco_counts(mask) == [1, 3]
    assert runs.coco_counts(~mask) == [0, 1, 3]


def test_the_compressed_form_is_that_of_coco() -> None:
    # By hand: 6 -> chr(48 + 6); 40 = 1 * 32 + 8 -> "X" (8 + 32 + 48), "1".
    assert runs.coco_string([6, 1, 40]) == "61X1"
    # From the fourth on the difference to the run before the last counts: 1 - 1 = 0, 5 - 40.
    assert runs.from_coco_string(runs.coco_string([6, 1, 40, 1, 5])) == [6, 1, 40, 1, 5]


@given(mask=masks)
@settings(max_examples=40, deadline=None)
def test_all_encodings_of_runs_are_exact(mask: np.ndarray) -> None:
    counts = runs.coco_counts(mask)
    assert runs.from_coco_string(runs.coco_string(counts)) == counts
    size = list(mask.shape)
    compressed = {"size": size, "counts": runs.coco_string(counts)}
    np.testing.assert_array_equal(runs.coco_mask(compressed, *mask.shape), mask)
    np.testing.assert_array_equal(runs.brush_mask(runs.brush_bytes(mask), *mask.shape), mask)
    flat = runs.from_run_lengths(runs.run_lengths(mask), mask.size)
    np.testing.assert_array_equal(flat.reshape(mask.shape), mask)


def test_a_literal_packet_of_label_studio_is_understood() -> None:
    """Its own encoder also writes words that differ, under flag 0."""
    words = [0, 0, 0, 255, 1, 2, 3, 0]
    header = f"{8:032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    bits = header + "000" + f"{7:03b}" + "".join(f"{word:08b}" for word in words)
    bits += "0" * (-len(bits) % 8)
    content = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    assert runs.brush_mask(content, 1, 2).tolist() == [[True, False]]


@pytest.mark.parametrize("content", [[], [1, 2, 3], [0] * 20, [255] * 40, ["x"]])
def test_damaged_brush_bytes_are_refused(content: list) -> None:
    with pytest.raises(DataError):
        runs.brush_mask(content, 4, 5)


@pytest.mark.parametrize("text", ["\x00", "ééé", "o" * 100, "61"])
def test_damaged_coco_runs_are_refused(text: str) -> None:
    with pytest.raises(DataError):
        runs.coco_mask({"size": [4, 5], "counts": text}, 4, 5)
