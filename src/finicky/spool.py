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
# Rows are copied together: small arrays that stay, between large ones that come and go, make the
# heap grow with every batch (1 MB each, seen with features).
_BLOCK_BYTES = 2**20


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
        self._free = 0  # rows at the end of the last block
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
                self._keep(rows)
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (close())
                if self._blocks:
                    self._file.write(self._kept().data.cast("B"))
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
            return self._kept() if self._blocks else np.empty((0, *shape), dtype)
        self._file.flush()
        return np.memmap(self._file, dtype=dtype, mode="r", shape=(self._rows, *shape))

    def _keep(self, rows: np.ndarray) -> None:
        while len(rows):
            if not self._free:
                self._free = max(len(rows), _BLOCK_BYTES // max(1, rows[0].nbytes))
                self._blocks.append(np.empty((self._free, *rows.shape[1:]), rows.dtype))
            start, part = len(self._blocks[-1]) - self._free, rows[: self._free]
            self._blocks[-1][start : start + len(part)] = part
            self._free -= len(part)
            rows = rows[len(part) :]

    def _kept(self) -> np.ndarray:
        """The rows in memory as one array, the only block from now on."""
        filled = [*self._blocks[:-1], self._blocks[-1][: len(self._blocks[-1]) - self._free]]
        if len(filled) > 1:
            self._blocks, self._free = [np.concatenate(filled)], 0
            return self._blocks[0]
        return filled[0]
