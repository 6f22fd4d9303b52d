"""What happened in a run folder, line by line: ``journal.jsonl``.

Each line is one JSON object that ends with the checksum of its own text, and is on the disk before
the next thing is done. A line that was torn by a crash, or is not ours, is left out when reading
and said; what a torn line told is then made again.
"""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from finicky.errors import DataError
from finicky.files import unwritable

Record = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """An append-only file of events; only the owner of the folder may append."""

    path: Path

    def read(self) -> tuple[list[Record], int]:
        """All whole records in order, and how many lines were none."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error
        lines = [line for line in content.split(b"\n") if line]
        records = [record for line in lines if (record := _parse(line)) is not None]
        return records, len(lines) - len(records)

    def append(self, event: str, **facts: Any) -> Record:
        """Add a record, durably; where that fails, the file is as before."""
        record = {"event": event, "at": _now()} | facts
        line = _line(record)
        try:
            self._write(line)
        except OSError as error:
            raise unwritable(self.path, error) from error
        return record

    def _write(self, line: bytes) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            end = os.lseek(handle, 0, os.SEEK_END)
            try:
                if end and not _ends_line(handle, end):
                    line = b"\n" + line  # a torn line must not take this one with it
                _write_all(handle, line)
                os.fsync(handle)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)


def _ends_line(handle: int, end: int) -> bool:
    os.lseek(handle, end - 1, os.SEEK_SET)
    return os.read(handle, 1) == b"\n"


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]


def _line(record: Record) -> bytes:
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    return f'{text[:-1]}, "crc": "{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def _parse(line: bytes) -> Record | None:
    """A line's record, or ``None`` where it is not exactly what was written."""
    try:
        text = line.decode("utf-8")
        record = json.loads(text)
        body = text[: text.rindex(', "crc": "')] + "}"
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("crc") != f"{zlib.crc32(body.encode()):08x}":
        return None
    del record["crc"]
    return record


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
