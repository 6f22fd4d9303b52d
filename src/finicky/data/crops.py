"""Parts of the labelled photos with their masks, kept where the photos themselves cannot be.

A pixel head is trained and judged on whole neighbourhoods, merged from overlapping tiles as an
inspection does it. ``crops.csv`` is written last: a folder without it holds no finished crops.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from finicky.classes import ClassTable, MaskClass
from finicky.data.pairs import Pair, load_pair
from finicky.data.splits import SPLITS, Split
from finicky.errors import DataError
from finicky.files import atomic_path, write_text
from finicky.images import read_image
from finicky.masks import IGNORE, target_mask
from finicky.progress import Progress, silent
from finicky.tiling import starts

TABLE = "crops.csv"
TILES_WIDE, MOST_SIDE = 5, 480
# Of the photos of one split at most so many; they are drawn by a hash of their keys.
MOST_PHOTOS = {"train": 60, "validation": 30, "test": 40}
_COLUMNS = ("crop", "split", "group", "photo", "x", "y")


@dataclass(frozen=True)
class Crop:
    """Part of a labelled photo.

    Attributes:
        photo: ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)`` uint8: 1 target, 0 anything else, 255 not to be counted.
        split: train, validation or test.
        group: The photograph it comes from.
        key: Of the photo.
    """

    photo: np.ndarray
    mask: np.ndarray
    split: Split
    group: str
    key: str


def write_crops(
    pairs: Sequence[Pair],
    out: Path,
    *,
    classes: ClassTable,
    targets: Sequence[MaskClass],
    splits: Mapping[str, tuple[Split, str]],
    tile: int,
    progress: Progress = silent,
) -> int:
    """Write crops of at most five tiles a side, two of large tiles; returns how many.

    A photo that fits is one crop. Of a larger one two are taken: that with most target pixels and
    that with fewest. What earlier starts wrote is replaced.
    """
    side = max(2 * tile, min(TILES_WIDE * tile, MOST_SIDE))
    chosen = [pair for split in SPLITS for pair in _drawn(pairs, splits, split)]
    rows: list[tuple[str, ...]] = []
    for number, pair in enumerate(chosen, start=1):
        split, group = splits[pair.key]
        photo, ids = load_pair(pair, classes)
        mask = np.where(ids == IGNORE, IGNORE, target_mask(ids, targets)).astype(np.uint8)
        for x, y in _places(mask, side):
            name = f"{split}-{number:04d}-{x}-{y}"
            part = slice(y, y + side), slice(x, x + side)
            _save(out / f"{name}.png", photo[part])
            _save(out / f"{name}.mask.png", mask[part])
            rows.append((name, split, group, pair.key, str(x), str(y)))
        progress("keep crops", number, len(chosen))
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([_COLUMNS, *rows])
    write_text(out / TABLE, stream.getvalue())
    return len(rows)


def read_crops(folder: Path, split: Split) -> list[Crop]:
    """The crops of a split, in the order in which they were written.

    Raises:
        DataError: The folder was not written by `write_crops`, or a file in it is damaged.
    """
    try:
        with (folder / TABLE).open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == split]
        return [_load(folder, row, split) for row in rows]
    except OSError as error:
        raise DataError(f"cannot read {folder / TABLE}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{folder / TABLE} is not a table of crops: {error!r}") from error


def _load(folder: Path, row: Mapping[str, str], split: Split) -> Crop:
    name = Path(row["crop"]).name
    photo = read_image(folder / f"{name}.png")
    with Image.open(folder / f"{name}.mask.png") as image:
        mask = np.array(image.convert("L"))
    if mask.shape != photo.shape[:2]:
        raise ValueError(f"{name} and its mask differ in size")
    return Crop(photo, mask, split, row["group"], row["photo"])


def _drawn(
    pairs: Sequence[Pair], splits: Mapping[str, tuple[Split, str]], split: Split
) -> list[Pair]:
    def draw(pair: Pair) -> str:
        return hashlib.sha256(pair.key.encode("utf-8", "surrogateescape")).hexdigest()

    inside = sorted((p for p in pairs if splits[p.key][0] == split), key=draw)
    return inside[: MOST_PHOTOS[split]]


def _places(mask: np.ndarray, side: int) -> list[tuple[int, int]]:
    height, width = mask.shape
    places = [
        (x, y)
        for y in starts(height, min(side, height), max(1, side // 2))
        for x in starts(width, min(side, width), max(1, side // 2))
    ]
    pixels = [int((mask[y : y + side, x : x + side] == 1).sum()) for x, y in places]
    most, fewest = int(np.argmax(pixels)), int(np.argmin(pixels))
    return [places[i] for i in dict.fromkeys((most, fewest))]


def _save(path: Path, values: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(values)).save(
            temporary, format="PNG", compress_level=1
        )
