"""The folder that tiles are written to, and its table ``tiles.csv``.

``tiles.csv`` is written last: a folder without it holds no finished tiles. Until then everything
lies in ``.finicky-tiles`` inside the folder, so an interrupted cut is recognised and cut anew.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from finicky.data.splits import SPLITS, Split
from finicky.errors import DataError, UsageError
from finicky.files import write_text
from finicky.images import printable

TABLE = "tiles.csv"
_STAGE = ".finicky-tiles"


@dataclass(frozen=True, slots=True)
class Tile:
    """One row of ``tiles.csv``.

    Attributes:
        tile: Path relative to the folder, with ``/``.
        label: Class name, the name of its folder.
        split: train, validation or test.
        group: The photograph, or set of near duplicates, it was cut from.
        photo: Key of the photo.
        x: Left edge in the photo, px.
        y: Top edge in the photo, px.
        coverage: Share of its pixels that belong to a target class.
        distractor: Share of its pixels that belong to a class of role distractor.
    """

    tile: str
    label: str
    split: Split
    group: str
    photo: str
    x: int
    y: int
    coverage: float
    distractor: float


def read_table(folder: Path) -> tuple[Tile, ...]:
    """The rows of a folder's ``tiles.csv``.

    Raises:
        DataError: It is missing, or was not written by this package.
    """
    path = folder / TABLE
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return tuple(_tile(row) for row in csv.DictReader(stream, strict=True))
    except OSError as error:
        raise DataError(f"cannot read {printable(path)}: {error.strerror}.") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(
            f"{printable(path)} is not a table of tiles ({error!r}). Cut the tiles again."
        ) from error


@contextmanager
def staged(out: Path, *, force: bool) -> Iterator[Path]:
    """Yield a folder to write tiles to; `publish` moves them into ``out``.

    Where that has not happened at the end, ``out`` is left as it was.

    Raises:
        UsageError: ``out`` holds something else, or finished tiles and ``force`` is false.
        DataError: ``out`` cannot be written.
    """
    existed = out.exists()
    _check_free(out, force)
    stage = out / _STAGE
    try:
        _clear_interrupted(out)
        stage.mkdir(parents=True)
        yield stage
    except OSError as error:
        raise DataError(
            f"could not write tiles to {printable(out)}: {error.strerror or error}."
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if not existed:
            with suppress(OSError):  # it holds the tiles now
                out.rmdir()


def publish(out: Path, stage: Path, tiles: Sequence[Tile]) -> None:
    """Move finished tiles from ``stage`` into ``out``, in place of its earlier ones."""
    if (out / TABLE).exists():
        (out / TABLE).unlink()
        _remove_splits(out)
    if hasattr(os, "sync"):
        os.sync()  # one call for thousands of tiles; the table must not outlive them in a crash
    for split in SPLITS:
        if (stage / split).exists():
            (stage / split).rename(out / split)
    write_text(out / TABLE, _table_text(tiles))


def _tile(row: dict[str, str]) -> Tile:
    split = next(split for split in SPLITS if split == row["split"])
    return Tile(
        row["tile"],
        row["label"],
        split,
        row["group"],
        row["photo"],
        int(row["x"]),
        int(row["y"]),
        float(row["coverage"]),
        float(row["distractor"]),
    )


def _table_text(tiles: Sequence[Tile]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(Tile)]
    writer.writerow(names)
    writer.writerows([getattr(tile, name) for name in names] for tile in tiles)
    return text.getvalue()


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{printable(out)} is a file; name a folder for the tiles.")
    if not out.exists() or not any(out.iterdir()):
        return
    if (out / TABLE).is_file():
        if not force:
            raise UsageError(
                f"{printable(out)} holds tiles already. Name another folder, or replace them "
                "with --force."
            )
        _check_only_tiles(out)
    elif not (out / _STAGE).is_dir():
        raise UsageError(
            f"{printable(out)} is not empty and holds no tiles of an earlier cut (no {TABLE}). "
            "Name a new or an empty folder."
        )


def _check_only_tiles(out: Path) -> None:
    """Replacing must never take a file away that this package did not write."""
    listed = {out / tile.tile for tile in read_table(out)}
    for split in SPLITS:
        for path in sorted((out / split).rglob("*")):
            if not path.is_dir() and path not in listed:
                raise UsageError(
                    f"{printable(path)} is none of the tiles in {TABLE}. Move it elsewhere before "
                    "the tiles are replaced."
                )


def _clear_interrupted(out: Path) -> None:
    if (out / _STAGE).is_dir():
        if not (out / TABLE).exists():  # the tiles were being moved into place
            _remove_splits(out)
        shutil.rmtree(out / _STAGE)


def _remove_splits(out: Path) -> None:
    for split in SPLITS:
        if (out / split).is_dir():
            shutil.rmtree(out / split)
