"""One photo at a time from a request to its results, which are kept for a while."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finicky.edge.bundle import Bundle
from finicky.edge.drawing import write_found_mask, write_heat, write_overlay
from finicky.edge.geojson import write_geojson
from finicky.edge.inspect import Inspected, InspectSettings, inspect_photo, rule_for
from finicky.edge.photos import opened_photo
from finicky.edge.places import Location, check_scale
from finicky.edge.results import DEFECT_COLUMNS, open_table, write_rows
from finicky.edge.rows import defect_row
from finicky.edge.worker import Room
from finicky.errors import DataError, ImageError, UsageError
from finicky.files import sha256_file
from finicky.images import image_size
from finicky.timing import available_cores

# What each result is called in an address, its file and its media type.
KINDS = {
    "overlay": ("overlay.jpg", "image/jpeg"),
    "map": ("map.png", "image/png"),
    "mask": ("mask.png", "image/png"),
    "outlines": ("outlines.geojson", "application/geo+json"),
    "table": ("defects.csv", "text/csv; charset=utf-8"),
}
_PIXELS_AT_ONCE = 120_000_000
_MOST_LISTED = 200


@dataclass(frozen=True)
class Limits:
    """What one request may cost.

    Attributes:
        max_pixels: Largest photo that is decoded.
        max_bytes: Largest file that is taken.
        upload_s: In how many seconds it must have come.
        inspect_s: In how many seconds it must be inspected.
        waiting: Photos that may be worked on or wait at the same time.
        kept: Results that are kept; older ones are deleted.
    """

    max_pixels: int = 120_000_000
    max_bytes: int = 250_000_000
    upload_s: float = 120
    inspect_s: float = 300
    waiting: int = 8
    kept: int = 50

    def check(self) -> None:
        """Refuse what is out of range with a `UsageError`."""
        if min(self.max_pixels, self.max_bytes, self.waiting, self.kept) < 1:
            raise UsageError("the limits of finicky serve must be at least 1")


class BusyError(UsageError):
    """As many photos are waiting as may wait."""


class TookTooLongError(DataError):
    """A photo was not inspected in time, or the server is stopping."""


class Inspector:
    """Takes photos on any thread. Photos are deleted at once, results when `close` is called."""

    def __init__(
        self,
        bundle: Bundle,
        settings: InspectSettings = InspectSettings(),
        limits: Limits = Limits(),
        *,
        mm_per_px: float | None = None,
    ) -> None:
        limits.check()
        check_scale(mm_per_px)
        self.bundle, self.limits, self.mm_per_px = bundle, limits, mm_per_px
        self.rule = rule_for(bundle, settings)
        bundle.session(1)
        self._folder = Path(tempfile.mkdtemp(prefix="finicky-serve-"))  # for this user only
        self._tiles = ThreadPoolExecutor(available_cores(), "tiles")
        self._room = Room(_PIXELS_AT_ONCE)
        self._lock = threading.Lock()
        self._results: OrderedDict[str, Path] = OrderedDict()
        self._waiting = 0
        self._stop = threading.Event()

    def close(self) -> None:
        """Stop what runs and delete everything."""
        self._stop.set()
        self._tiles.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def turn(self) -> Iterator[Path]:
        """A file for a photo that may be taken now; it is deleted afterwards.

        Raises:
            BusyError: Too many are waiting already.
        """
        with self._lock:
            if self._waiting >= self.limits.waiting:
                raise BusyError(
                    f"{self.limits.waiting} photos are waiting already: try again in a moment"
                )
            self._waiting += 1
        path = self._folder / f"photo-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
            with self._lock:
                self._waiting -= 1

    def inspect(self, path: Path) -> dict[str, Any]:
        """What is found on a photo, as a plain value for JSON; its files are kept under an id.

        Raises:
            ImageError: It cannot be read; the message names no path.
            TookTooLongError: It took too long.
        """
        began = time.monotonic()
        try:
            found, rows, files = self._worked(path, began)
        except ImageError as error:
            # Only the first remedy: a person at the page has no folder and no options.
            what = "the photo cannot be used"
            raise ImageError(what, error.reason, *error.remedies[:1]) from error
        except InterruptedError as error:
            raise TookTooLongError(
                f"the photo was not inspected within {self.limits.inspect_s:g} s: cut it into "
                "smaller photos"
            ) from error
        name = self._keep(files)
        return {"id": name, **self._value(found, rows, time.monotonic() - began)}

    def result(self, name: str, kind: str) -> tuple[bytes, str, str] | None:
        """Content, file name and media type of a result; ``None`` for what is not there."""
        with self._lock:
            folder = self._results.get(name)
        if folder is None or kind not in KINDS:
            return None
        file, media_type = KINDS[kind]
        try:
            return (folder / file).read_bytes(), file, media_type
        except OSError:  # deleted meanwhile
            return None

    def about(self) -> dict[str, Any]:
        """What the page says of the model."""
        bundle, rule = self.bundle, self.rule
        return {
            "model": bundle.name,
            "sha256": bundle.sha256,
            "target": bundle.target.name,
            "color": bundle.target.color,
            "tile_px": bundle.tile_px,
            "cell_px": rule.cell if rule.cell is not None else rule.stride,
            "high": rule.high,
            "low": rule.low,
            "mm_per_px": self.mm_per_px,
            "max_pixels": self.limits.max_pixels,
            "max_bytes": self.limits.max_bytes,
        }

    def _worked(self, path: Path, began: float) -> tuple[Inspected, list[list[Any]], Path]:
        limit = self.limits.max_pixels
        width, height = image_size(path, max_pixels=limit)

        def stopped() -> bool:
            late = time.monotonic() - began > self.limits.inspect_s
            return late or self._stop.is_set()

        files = Path(tempfile.mkdtemp(prefix="result-", dir=self._folder))
        target, paths = self.bundle.target, {k: files / name for k, (name, _) in KINDS.items()}
        try:
            with self._room.taken(width * height):
                with opened_photo(path, max_pixels=limit) as photo:
                    found = inspect_photo(
                        self.bundle, photo, self.rule, pool=self._tiles, stopped=stopped
                    )
                    write_overlay(paths["overlay"], photo, found, target)
                    at = photo.location
                del photo  # hundreds of MB
                write_found_mask(paths["mask"], found, target)
                write_heat(paths["map"], found)
            digest = sha256_file(path)
            write_geojson(paths["outlines"], "photo", digest, found, self.bundle, at.grid)
            rows = self._rows(found, at)
            with open_table(paths["table"], "w") as stream:
                write_rows(stream, [DEFECT_COLUMNS, *rows])
        except BaseException:
            shutil.rmtree(files, ignore_errors=True)
            raise
        return found, rows, files

    def _rows(self, found: Inspected, at: Location) -> list[list[Any]]:
        size = (found.place.width, found.place.height)
        scale = at.mm_per_px(*size, given=self.mm_per_px, dpi=False)
        return [
            defect_row("photo", found, k, self.bundle.target, scale, at.grid)
            for k in range(len(found.regions))
        ]

    def _value(self, found: Inspected, rows: list[list[Any]], seconds: float) -> dict[str, Any]:
        place, regions = found.place, found.regions
        return {
            "width": place.width,
            "height": place.height,
            "tiles": place.tiles,
            "seconds": round(seconds, 3),
            "target": self.bundle.target.name,
            "probability": found.max_score,
            "found": bool(regions),
            "n_defects": len(regions),
            "area_px": found.area_px,
            "area_pct": found.area_pct,
            "length_px": round(sum(region.length_px for region in regions), 1),
            "defects": [
                dict(zip(DEFECT_COLUMNS[1:], row[1:], strict=True)) for row in rows[:_MOST_LISTED]
            ],
            "files": {kind: file for kind, (file, _) in KINDS.items()},
        }

    def _keep(self, files: Path) -> str:
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._results[name] = files
            old = [
                self._results.popitem(last=False)[1]
                for _ in range(len(self._results) - self.limits.kept)
            ]
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
        return name
