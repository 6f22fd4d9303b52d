"""The folder of results: a journal that survives a kill, and the tables made from it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from finicky.errors import DataError, UsageError
from finicky.files import atomic_path, read_json, write_json
from finicky.images import printable

RUN, JOURNAL = "run.json", "journal.jsonl"
SUMMARY, DEFECTS, REPORT, POINTS = "summary.csv", "defects.csv", "report.html", "photos.geojson"
OVERLAYS, MASKS, HEAT, GEOJSON = "overlays", "masks", "heat", "geojson"
DEFECT_COLUMNS = (
    "image",
    "id",
    "class",
    "score_mean",
    "score_max",
    "x",
    "y",
    "w",
    "h",
    "area_px",
    "length_px",
    "mean_width_px",
    "length_mm",
    "width_mm",
    "lat",
    "lon",
    "orientation_deg",
)
# What tells whether a photo and its results are those of a record.
_VOUCHED_BY = ("status", "bytes", "mtime_ns", "sizes")
# Longest file name in bytes that every common file system takes, with room for suffixes.
_LONGEST = 230

Record = dict[str, Any]


def open_table(path: Path, mode: Literal["w", "a"]) -> IO[str]:
    """A CSV file to write to. Names that are no UTF-8 show their bytes: no table breaks on them."""
    return path.open(mode, encoding="utf-8", errors="backslashreplace", newline="")


def write_rows(stream: IO[str], rows: Iterable[Sequence[Any]], separator: str = ",") -> None:
    """Rows of a CSV file; ``None`` is an empty cell, and no cell is a formula to a spreadsheet."""
    table = csv.writer(stream, delimiter=separator, lineterminator="\n")
    table.writerows([_cell(value) for value in row] for row in rows)


def summary_columns(target: str) -> list[str]:
    """Header of ``summary.csv``."""
    measures = [f"{target}_{m}" for m in ("n_regions", "area_px", "area_pct", "max_score")]
    return ["file", "width", "height", "tiles", "seconds", *measures, "status", "reason"]


@dataclass(frozen=True)
class TableStyle:
    """How CSV is written: the separator, and whether with the mark that Excel wants."""

    separator: str = ","
    bom: bool = False


@dataclass
class ResultFolder:
    """Where results lie. A photo is done when its line is in the journal, which is written last."""

    root: Path
    target: str
    style: TableStyle = field(default_factory=TableStyle)
    _journal: IO[bytes] | None = None
    _tables: tuple[IO[str], IO[str]] | None = None
    _places: dict[str, int] = field(default_factory=dict)

    def claim(self, conditions: Mapping[str, Any], *, resume: bool, force: bool) -> None:
        """Take the folder, new, empty, or of an earlier run that is gone on with or thrown away.

        Raises:
            UsageError: It holds something else, or results under other conditions.
        """
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{printable(self.root)} is a file; --out needs a folder")
        run, before = self.root / RUN, None
        if run.is_file():
            before = read_json(run)
        ours = isinstance(before, dict) and before.get("made_by") == "finicky predict"
        if not ours and self.root.is_dir() and any(self.root.iterdir()):
            raise UsageError(
                f"{printable(self.root)} holds other files: choose a new or empty --out folder"
            )
        if ours and resume:
            assert isinstance(before, dict)
            old = before.get("conditions", {})
            differing = sorted(k for k in {*old, *conditions} if old.get(k) != conditions.get(k))
            if differing:
                raise UsageError(
                    f"{printable(self.root)} holds results with other {', '.join(differing)}: "
                    "choose another --out folder, or start anew with --force"
                )
        elif ours and not force:
            raise UsageError(
                f"{printable(self.root)} holds results already: go on with --resume, start anew "
                "with --force, or choose another --out folder"
            )
        elif ours:
            self._clear()
        self.root.mkdir(parents=True, exist_ok=True)

    def start(self, run: Mapping[str, Any], order: Sequence[str]) -> dict[str, Record]:
        """Open journal and tables; returns what earlier runs finished, by key."""
        write_json(self.root / RUN, dict(run))
        for path in self.root.rglob(".*.tmp"):  # what a kill left
            path.unlink(missing_ok=True)
        done = self._read_journal()
        self._journal = (self.root / JOURNAL).open("ab")
        self.write_tables(order)
        self._tables = (self._append(SUMMARY), self._append(DEFECTS))
        return done

    def add(self, record: Record) -> None:
        """Note a photo as done, or failed."""
        assert self._journal is not None and self._tables is not None
        self._places[record["key"]] = self._journal.tell()
        line = json.dumps(record, ensure_ascii=True, allow_nan=False)
        self._journal.write(line.encode("ascii") + b"\n")
        self._journal.flush()
        self._write_rows(record, self._tables[0], self._tables[1])
        for table in self._tables:
            table.flush()

    def close(self) -> None:
        """Let go of the files; what was added is on disk."""
        for stream in (self._journal, *(self._tables or ())):
            if stream is not None:
                stream.flush()
                os.fsync(stream.fileno())
                stream.close()
        self._journal, self._tables = None, None

    def records(self, order: Sequence[str]) -> Iterator[Record]:
        """The photos in that order, read one by one; those not done yet are left out."""
        if not (self.root / JOURNAL).is_file():
            return
        with (self.root / JOURNAL).open("rb") as stream:
            for key in order:
                if key in self._places:
                    stream.seek(self._places[key])
                    yield json.loads(stream.readline())

    def write_tables(self, order: Sequence[str]) -> None:
        """Both tables anew from the journal, in that order, whole or not at all."""
        with (
            atomic_path(self.root / SUMMARY) as one,
            atomic_path(self.root / DEFECTS) as two,
            open_table(one, "w") as summary,
            open_table(two, "w") as defects,
        ):
            if self.style.bom:
                summary.write("\ufeff")
                defects.write("\ufeff")
            write_rows(summary, [summary_columns(self.target)], self.style.separator)
            write_rows(defects, [DEFECT_COLUMNS], self.style.separator)
            for record in self.records(order):
                self._write_rows(record, summary, defects)

    def path(self, kind: str, key: str, suffix: str) -> Path:
        """Where a result of a photo lies; names that would be too long are cut and hashed."""
        parts = [part if part not in ("..", ".") else "_" for part in key.split("/")]
        return (
            self.root
            / kind
            / Path(*(_short(part) for part in parts[:-1]))
            / (_short(parts[-1]) + suffix)
        )

    def _read_journal(self) -> dict[str, Record]:
        """What is done; a torn or foreign line is dropped, and the file is mended."""
        path = self.root / JOURNAL
        found: dict[str, Record] = {}
        self._places = {}
        if not path.is_file():
            return found
        with (
            atomic_path(path) as mended,
            path.open("rb") as stream,
            mended.open("wb") as copy,
        ):
            for line in stream:
                record = _parsed(line)
                if record is None:
                    continue
                self._places[record["key"]] = copy.tell()
                found[record["key"]] = {k: record.get(k) for k in _VOUCHED_BY}
                copy.write(line)
        return found

    def _append(self, name: str) -> IO[str]:
        return open_table(self.root / name, "a")

    def _write_rows(self, record: Record, summary: IO[str], defects: IO[str]) -> None:
        write_rows(summary, [record["row"]], self.style.separator)
        write_rows(defects, record["defects"], self.style.separator)

    def _clear(self) -> None:
        try:
            for name in (JOURNAL, SUMMARY, DEFECTS, REPORT, POINTS):
                (self.root / name).unlink(missing_ok=True)
            for name in (OVERLAYS, MASKS, HEAT, GEOJSON, "frames"):
                if (self.root / name).is_dir():
                    shutil.rmtree(self.root / name)
            (self.root / RUN).unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"could not clear {printable(self.root)}: {error.strerror or error}"
            ) from error


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
        whole = line.endswith(b"\n") and {"key", "row", "defects", "status"} <= set(record)
        return record if whole else None
    except (ValueError, TypeError):
        return None


def _cell(value: Any) -> Any:
    """Spreadsheets run cells that start like a formula: such text gets a quote before it."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value


def _short(name: str) -> str:
    raw = os.fsencode(name)
    if len(raw) <= _LONGEST:
        return name
    return os.fsdecode(raw[:180]) + "-" + hashlib.sha256(raw).hexdigest()[:12]
