"""Tiles cover a photo and never leave it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finicky.errors import UsageError
from finicky.tiling import tile_origins


def test_last_column_and_row_are_snapped_to_the_border():
    assert tile_origins(5, 4, 2, 2) == [(0, 0), (2, 0), (3, 0), (0, 2), (2, 2), (3, 2)]


def test_a_photo_of_one_tile_has_one():
    assert tile_origins(7, 7, 7, 3) == [(0, 0)]


@pytest.mark.parametrize("size", [(7, 8), (8, 7)])
def test_a_photo_smaller_than_the_tile_has_none(size):
    assert tile_origins(*size, 8, 8) == []


@pytest.mark.parametrize(("tile", "stride"), [(0, 1), (1, 0), (-4, 2)])
def test_sizes_below_one_are_refused(tile, stride):
    with pytest.raises(UsageError, match=f"at least 1 px, got {tile} and {stride}"):
        tile_origins(10, 10, tile, stride)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30), st.integers(1, 30))
def test_tiles_stay_inside_are_unique_and_cover_up_to_the_stride(width, height, tile, stride):
    stride = min(stride, tile)
    origins = tile_origins(width, height, tile, stride)
    covered = np.zeros((height, width), bool)
    for x, y in origins:
        assert 0 <= x <= width - tile
        assert 0 <= y <= height - tile
        covered[y : y + tile, x : x + tile] = True
    assert len(set(origins)) == len(origins)
    assert covered.all() or min(width, height) < tile
