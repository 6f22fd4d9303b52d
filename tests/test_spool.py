"""Rows in memory and on disk."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from finicky.spool import Spool, forget

MB = 2**20


def test_rows_are_the_same_in_memory_and_on_disk() -> None:
    rows = np.arange(60, dtype=np.int16).reshape(10, 2, 3)
    for limit in (0, 30, 10**6):
        with Spool(limit_bytes=limit) as spool:
            spool.append(rows[:4])
            spool.append(rows[4:])
            found = spool.rows()
            assert isinstance(found, np.memmap) == (limit < rows.nbytes)
            np.testing.assert_array_equal(found, rows)
            forget(found)
            np.testing.assert_array_equal(found[3:5], rows[3:5])


def test_rows_can_be_asked_for_between_appends() -> None:
    rows = np.arange(3_000_000, dtype=np.float32).reshape(-1, 100)
    with Spool() as spool:
        spool.append(rows[:0])
        assert spool.rows().shape == (0, 100)
        spool.append(rows[:7])
        first = spool.rows()
        for start in range(7, len(rows), 1000):
            spool.append(rows[start : start + 1000])
        np.testing.assert_array_equal(spool.rows(), rows)
        spool.append(rows[:3])
        assert len(spool.rows()) == len(rows) + 3
        np.testing.assert_array_equal(first, rows[:7])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts pages in /proc")
def test_forgotten_rows_take_no_memory() -> None:
    with Spool(limit_bytes=0) as spool:
        spool.append(np.ones((32, MB), dtype=np.uint8))
        rows = spool.rows()
        before = _mapped_files()
        assert rows.sum() == 32 * MB
        assert _mapped_files() - before > 31 * MB
        forget(rows)
        assert abs(_mapped_files() - before) < MB


def _mapped_files() -> int:
    """Bytes of files that are in this process's memory."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssFile"))) * 1024
