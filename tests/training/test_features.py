"""Tiles to vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finicky.backbones import load_backbone
from finicky.errors import ImageError, ShapeError, UsageError
from finicky.spool import Spool
from finicky.training import FEATURE_KINDS, Features, extract, read_tiles


def test_pooling_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]]])
    found = {kind: Features(kind)(maps).tolist() for kind in FEATURE_KINDS}
    assert found == {
        "mean": [[3.0, 1.0]],
        "max": [[6.0, 4.0]],
        "mean+max": [[3.0, 1.0, 6.0, 4.0]],
        "flat": [[1.0, 2.0, 3.0, 6.0, 0.0, 0.0, 0.0, 4.0]],
    }


def test_unknown_features_name_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no features named 'mena'\. Did you mean mean"):
        Features("mena")  # type: ignore[arg-type]


def test_batches_give_what_single_tiles_give() -> None:
    backbone = load_backbone("alexnet", weights="random")
    tiles = _tiles(7, 64)
    with Spool() as spool, Spool() as other:
        together = extract(backbone, tiles, spool, kind="mean+max", batch=3).copy()
        alone = extract(backbone, tiles, other, kind="mean+max", batch=1)
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert together.shape == (7, 512)


def test_spool_goes_to_disk_and_reads_back_the_same(tmp_path: Path) -> None:
    rows = np.arange(600, dtype=np.float32).reshape(100, 6)
    with Spool(limit_bytes=500, folder=tmp_path) as spool:
        for start in range(0, 100, 7):
            spool.append(rows[start : start + 7])
        found = spool.rows()
        assert isinstance(found, np.memmap)
        np.testing.assert_array_equal(found, rows)
    assert list(tmp_path.iterdir()) == []


def test_spool_in_memory_reads_back_the_same() -> None:
    with Spool() as spool:
        spool.append(np.ones((2, 3), np.uint8))
        spool.append(np.zeros((1, 3), np.uint8))
        assert spool.rows().tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
        with pytest.raises(ShapeError, match="rows of"):
            spool.append(np.zeros((1, 4), np.uint8))


def test_tiles_of_another_size_are_resized_and_broken_ones_named(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (10, 20, 30)).save(tmp_path / "a.png")
    with Spool() as spool:
        found = read_tiles([tmp_path / "a.png"], spool, size=16)
        assert found.shape == (1, 16, 16, 3)
        assert found[0, 8, 8].tolist() == [10, 20, 30]
    (tmp_path / "b.png").write_bytes(b"no image")
    with Spool() as spool, pytest.raises(ImageError, match=r"b\.png"):
        read_tiles([tmp_path / "b.png"], spool, size=16)


def _tiles(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
