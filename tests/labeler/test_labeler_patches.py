"""Strokes on the wire."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finicky.errors import DataError
from finicky.labeler import patches

ALLOWED = frozenset({0, 1, 2, 255})


def _body(x: int, y: int, w: int, h: int, *runs: tuple[int, bool, int]) -> bytes:
    words = [value << 24 | keep << 23 | length for value, keep, length in runs]
    return np.array([x, y, w, h, len(words), *words], "<u4").tobytes()


def test_a_patch_changes_only_the_pixels_that_it_does_not_keep() -> None:
    ids = np.full((3, 4), 2, np.uint8)
    body = _body(1, 1, 2, 2, (1, False, 1), (0, True, 2), (0, False, 1))
    patches.apply(patches.decode(body, width=4, height=3, allowed=ALLOWED), ids)
    assert ids.tolist() == [[2, 2, 2, 2], [2, 1, 2, 2], [2, 2, 0, 2]]


@given(
    seed=st.integers(0, 2**32 - 1), width=st.integers(1, 1100), height=st.sampled_from([1, 7, 600])
)
@settings(max_examples=25, deadline=None)
def test_a_whole_mask_travels_unchanged(seed: int, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.choice(np.array([0, 0, 0, 1, 2, 255], np.uint8), (height, width))
    ids[:, : width // 2] = 0
    copy = np.zeros_like(ids)
    body = patches.encode(ids)
    patches.apply(patches.decode(body, width=width, height=height, allowed=ALLOWED), copy)
    np.testing.assert_array_equal(copy, ids)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"\0" * 19, "cut off"),
        (_body(0, 0, 2, 1, (1, False, 2))[:-1], "cut off"),
        (_body(3, 0, 2, 1, (1, False, 2)), "leaves the photo"),
        (_body(0, 0, 0, 1), "leaves the photo"),
        (_body(2**32 - 1, 0, 2, 1, (1, False, 2)), "leaves the photo"),
        (_body(0, 0, 2, 1, (1, False, 3)), "holds 3 pixels"),
        (_body(0, 0, 2, 1, (1, False, 1)), "holds 1 pixels"),
        (_body(0, 0, 2, 1, (3, False, 2)), r"values \[3\]"),
        (np.array([0, 0, 1, 1, 2**31], "<u4").tobytes(), "cut off"),
    ],
)
def test_damaged_strokes_are_refused(body: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        patches.decode(body, width=4, height=3, allowed=ALLOWED)
