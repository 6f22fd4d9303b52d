"""Rows that are kept in memory while they are few and on disk when they are many."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from finicky.errors import ShapeError, StorageError

# 2,300 tiles of 96 px. What lies on disk costs no memory once it is forgotten; see `forget`.
DEFAULT_LIMIT_BYTES = 64 * 2**20


def forget(rows: np.ndarray) -> None:
    """Let go of the memory that reading mapped rows took; they stay readable, from disk.

    Pages that were read count as the process's own until the system is short of memory. Does
    nothing to rows in memory, and on systems that cannot do it (Windows).
    """
    mapping = getattr(rows, "_mmap", None)
    if isinstance(mapping, mmap.mmap) and hasattr(mapping, "madvise"):
        mapping.madvise(mmap.MADV_DONTNEED)


class Spool:
    """A growing array of equal rows: a list in memory up to a limit, then a temporary file.

    Use as a context manager; the temporary file goes when it is left.

    Args:
        limit_bytes: What may stay in memory.
        folder: Where the temporary file goes; the system's place for such files by default.
    """

    def __init__(
        self, *, limit_bytes: int = DEFAULT_LIMIT_BYTES, folder: Path | None = None
    ) -> None:
        self._limit = limit_bytes
        self._folder = folder
        self._blocks: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._bytes = 0
        self._rows = 0
        self._form: tuple[tuple[int, ...], np.dtype] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the rows and of the temporary file."""
        self._blocks.clear()
        if self._file is not None:
            self._file.close()

    def append(self, rows: np.ndarray) -> None:
        """Add ``(n, ...)`` rows; shape and type must be those of the first block."""
        form = (rows.shape[1:], rows.dtype)
        if self._form is None:
            self._form = form
        if form != self._form:
            raise ShapeError(f"rows of {self._form} expected, got {form}")
        self._rows += len(rows)
        self._bytes += rows.nbytes
        try:
            if self._file is None and self._bytes <= self._limit:
                self._blocks.append(np.ascontiguousarray(rows))
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (close())
                for block in self._blocks:
                    self._file.write(block.data.cast("B"))
                self._blocks.clear()
            self._file.write(np.ascontiguousarray(rows).data.cast("B"))
        except OSError as error:
            raise StorageError(
                f"no room for {self._bytes / 1e6:.0f} MB of intermediate results in "
                f"{self._folder or tempfile.gettempdir()}: {error.strerror}. Free some space or "
                "set TMPDIR to a larger disk"
            ) from error

    def rows(self) -> np.ndarray:
        """All rows as one read-only array, mapped from disk if they lie there.

        The array is valid until the spool is left.
        """
        if self._form is None:
            raise ShapeError("nothing was appended")
        shape, dtype = self._form
        if self._file is None:
            if len(self._blocks) > 1:
                self._blocks = [np.concatenate(self._blocks)]
            return self._blocks[0]
        self._file.flush()
        return np.memmap(self._file, dtype=dtype, mode="r", shape=(self._rows, *shape))
