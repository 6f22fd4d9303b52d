"""One photo after another, on any thread: from its file to its files of results."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from finicky.edge.bundle import Bundle
from finicky.edge.drawing import write_found_mask, write_heat, write_overlay
from finicky.edge.geojson import write_geojson
from finicky.edge.inspect import InspectSettings, Rule, inspect_photo
from finicky.edge.photos import opened_photo
from finicky.edge.places import check_scale
from finicky.edge.results import GEOJSON, HEAT, MASKS, OVERLAYS, Record, ResultFolder, TableStyle
from finicky.edge.rows import defect_row, summary_row
from finicky.edge.sources import Source
from finicky.edge.video import FrameSettings
from finicky.errors import ImageError, UsageError
from finicky.images import MAX_PIXELS, image_size
from finicky.timing import available_cores

# Pixels that may be decoded at the same time: 50 megapixels take some 350 MB while they are read.
_PIXELS_AT_ONCE = 40_000_000
_KINDS = ("overlays", "masks", "geojson", "heat")
_SUFFIX = {OVERLAYS: ".jpg", MASKS: ".png", HEAT: ".png", GEOJSON: ".geojson"}


@dataclass(frozen=True)
class PredictSettings:
    """How many photos are inspected.

    Attributes:
        inspect: What the result of a photo depends on.
        recursive: Look into folders below folders.
        outputs: Which files each photo gets, of overlays, masks, geojson and heat.
        mm_per_px: Scale of the photos; ``None``: that of GeoTIFFs, mm of others stay empty.
        dpi_is_scale: Take the resolution of files without a scale for it: right for scans, and
            left alone for photos of cameras.
        max_pixels: Largest photo that is decoded.
        frames: Which frames of videos are looked at.
        threads: Cores to use; 0: all.
        table: How CSV is written.
        resume: Go on with what an earlier run left in the folder.
        force: Throw away what an earlier run left.
    """

    inspect: InspectSettings = field(default_factory=InspectSettings)
    recursive: bool = True
    outputs: tuple[str, ...] = ("overlays", "masks", "geojson")
    mm_per_px: float | None = None
    dpi_is_scale: bool = False
    max_pixels: int = MAX_PIXELS
    frames: FrameSettings = field(default_factory=FrameSettings)
    threads: int = 0
    table: TableStyle = field(default_factory=TableStyle)
    resume: bool = False
    force: bool = False

    def check(self) -> None:
        """Refuse what is out of range with a `UsageError`."""
        unknown = [name for name in self.outputs if name not in _KINDS]
        if unknown:
            raise UsageError(f"outputs must be among {', '.join(_KINDS)}, got {unknown[0]!r}")
        check_scale(self.mm_per_px)
        self.frames.check()
        if self.max_pixels < 1 or self.threads < 0:
            raise UsageError(
                "max_pixels must be at least 1 and threads at least 0, "
                f"got {self.max_pixels} and {self.threads}"
            )


class Worker:
    """Takes one photo at a time, on any thread."""

    def __init__(
        self, bundle: Bundle, rule: Rule, settings: PredictSettings, folder: ResultFolder
    ) -> None:
        self.bundle, self.rule, self.settings, self.folder = bundle, rule, settings, folder
        self.threads = settings.threads or available_cores()
        self.stop = threading.Event()
        self.tiles = ThreadPoolExecutor(self.threads, "tiles")
        self.room = Room(_PIXELS_AT_ONCE)
        bundle.session(1)  # made before threads could make it twice

    def is_done(self, source: Source, earlier: Record | None) -> bool:
        """Whether an earlier run finished this very file."""
        if earlier is None or earlier["status"] == "failed":
            return False
        if earlier["status"] == "skipped":
            return bool(source.skipped)
        size, changed = _stamp(source.path)
        same = (earlier["bytes"], earlier["mtime_ns"]) == (size, changed)
        return same and earlier["sizes"] == _sizes(self._files(source.key))

    def __call__(self, source: Source) -> Record:
        """The photo's line for the journal; never raises for what is wrong with the photo."""
        began = time.monotonic()
        if source.skipped:
            return self._bad(source, "failed" if source.failed else "skipped", source.skipped)
        try:
            return self._good(source, began)
        except ImageError as error:
            return self._bad(source, "failed", error.account)

    def _good(self, source: Source, began: float) -> Record:
        limit = self.settings.max_pixels
        width, height = image_size(source.path, max_pixels=limit)
        size, changed = _stamp(source.path)
        with self.room.taken(width * height), opened_photo(source.path, max_pixels=limit) as photo:
            found = inspect_photo(
                self.bundle, photo, self.rule, pool=self.tiles, stopped=self.stop.is_set
            )
            at, files = photo.location, self._files(source.key)
            if OVERLAYS in files:
                write_overlay(files[OVERLAYS], photo, found, self.bundle.target)
        del photo  # up to hundreds of MB
        if MASKS in files:
            write_found_mask(files[MASKS], found, self.bundle.target)
        if HEAT in files:
            write_heat(files[HEAT], found)
        if GEOJSON in files:
            digest = _sha256(source.path)
            write_geojson(files[GEOJSON], source.key, digest, found, self.bundle, at.grid)
        given, dpi = self.settings.mm_per_px, self.settings.dpi_is_scale
        size_px = (found.place.width, found.place.height)
        scale = at.mm_per_px(*size_px, given=given, dpi=dpi)
        return {
            "key": source.key,
            "status": "ok",
            "at": at.middle(*size_px),
            "bytes": size,
            "mtime_ns": changed,
            "sizes": _sizes(files),
            "row": summary_row(source.key, found, time.monotonic() - began),
            "defects": [
                defect_row(source.key, found, k, self.bundle.target, scale, at.grid)
                for k in range(len(found.regions))
            ],
        }

    def _bad(self, source: Source, status: str, reason: str) -> Record:
        row = [source.key, *[None] * 8, status, reason]
        return {"key": source.key, "status": status, "row": row, "defects": []}

    def _files(self, key: str) -> dict[str, Path]:
        return {kind: self.folder.path(kind, key, _SUFFIX[kind]) for kind in self.settings.outputs}


class Room:
    """Lets threads decode photos beside each other as long as together they are not too large."""

    def __init__(self, pixels: int) -> None:
        self._pixels, self._used, self._free = pixels, 0, threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        with self._free:
            # A photo larger than all the room is taken alone.
            self._free.wait_for(lambda: not self._used or self._used + pixels <= self._pixels)
            self._used += pixels
        try:
            yield
        finally:
            with self._free:
                self._used -= pixels
                self._free.notify_all()


def _sizes(files: dict[str, Path]) -> dict[str, int]:
    """In bytes; -1 for what is not there. A power cut may leave files without their content."""
    return {kind: _stamp(path)[0] for kind, path in files.items()}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        info = os.stat(path)  # noqa: PTH116 (also of names that are not UTF-8)
    except OSError:
        return -1, -1
    return info.st_size, info.st_mtime_ns


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
