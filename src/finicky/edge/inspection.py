"""Many photos through a bundle into a folder of results: the whole inspection."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from finicky.edge.bundle import Bundle, open_bundle
from finicky.edge.drawing import write_found_mask, write_heat, write_overlay
from finicky.edge.geojson import write_geojson
from finicky.edge.inspect import Inspected, InspectSettings, Rule, inspect_photo, rule_for
from finicky.edge.page import write_page
from finicky.edge.photos import opened_photo
from finicky.edge.results import (
    GEOJSON,
    HEAT,
    MASKS,
    OVERLAYS,
    REPORT,
    RUN,
    Record,
    ResultFolder,
    TableStyle,
)
from finicky.edge.scan import plan
from finicky.edge.sources import Source, find_photos
from finicky.errors import FinickyError, ImageError, UsageError
from finicky.files import write_json
from finicky.images import MAX_PIXELS, image_size
from finicky.progress import Progress, silent
from finicky.timing import available_cores, environment

# Photos whose headers are read for the estimate; of more, so many are drawn evenly.
_SAMPLE = 1000
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
        mm_per_px: Scale of the photos; ``None``: lengths in mm stay empty.
        max_pixels: Largest photo that is decoded.
        threads: Cores to use; 0: all.
        table: How CSV is written.
        resume: Go on with what an earlier run left in the folder.
        force: Throw away what an earlier run left.
    """

    inspect: InspectSettings = field(default_factory=InspectSettings)
    recursive: bool = True
    outputs: tuple[str, ...] = ("overlays", "masks", "geojson")
    mm_per_px: float | None = None
    max_pixels: int = MAX_PIXELS
    threads: int = 0
    table: TableStyle = field(default_factory=TableStyle)
    resume: bool = False
    force: bool = False


@dataclass(frozen=True)
class Estimate:
    """What lies ahead.

    Attributes:
        photos: That will be looked at.
        earlier: That an earlier run finished.
        tiles: In all photos; from a sample where there are more than 1000.
        seconds: Expected, from a short warm-up on this computer.
        exact: Whether every photo was counted.
    """

    photos: int
    earlier: int
    tiles: int
    seconds: float
    exact: bool


@dataclass(frozen=True)
class PredictResult:
    """What was done, and where it lies.

    Attributes:
        out: The folder of results.
        ok: Photos with a result.
        failed: Photos that could not be used; each has a row with the reason.
        skipped: Files that are no photos by their names.
        with_target: Photos on which something was found.
        regions: Found in all.
        seconds: Taken.
    """

    out: Path
    ok: int
    failed: int
    skipped: int
    with_target: int
    regions: int
    seconds: float

    def too_many_bad(self, share: float) -> bool:
        """Whether more than ``share`` of the photos failed, or all of them."""
        total = self.ok + self.failed
        return self.failed > 0 and (self.ok == 0 or self.failed > share * total)


def predict(
    bundle: Bundle | str | Path,
    photos: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: PredictSettings = PredictSettings(),
    *,
    progress: Progress = silent,
    announce: Callable[[Estimate], None] = lambda _: None,
) -> PredictResult:
    """Inspect photos and write tables, overlays, masks, outlines and a report.

    A photo that cannot be read is a row with the reason; it stops nothing and changes nothing in
    the results of others. Stopped at any moment, finished photos are whole, and the same call with
    ``resume`` goes on.

    Args:
        bundle: From `open_bundle`, or what that takes.
        photos: A file, folder, pattern, ``@list.txt``, or several of them.
        out: Folder of results; new, empty, or see ``resume`` and ``force``.
        settings: The rest.
        progress: Told of each photo.
        announce: Told once what lies ahead, before it begins.

    Raises:
        UsageError: An option is out of range, nothing is found, or ``out`` is not free.
        DataError: The bundle cannot be used, or results cannot be written.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    _check(settings)
    rule = rule_for(opened, settings.inspect)
    root, began = Path(out), time.monotonic()
    given = [photos] if isinstance(photos, str | Path) else list(photos)
    sources = find_photos(given, recursive=settings.recursive, leave_out=root)
    order = [source.key for source in sources]
    folder = ResultFolder(root, opened.target.name, settings.table)
    folder.claim(_conditions(opened, rule, settings), resume=settings.resume, force=settings.force)
    run = _run(opened, rule, settings, given)
    done = folder.start(run, order)
    worker = _Worker(opened, rule, settings, folder)
    todo = [source for source in sources if not worker.is_done(source, done.get(source.key))]
    try:
        announce(_estimate(opened, rule, settings, todo, len(sources) - len(todo)))
        _carry_out(worker, todo, len(sources), progress)
        folder.close()
        return _finish(folder, order, run, opened, rule, began)
    finally:
        worker.stop.set()
        folder.close()


def _check(settings: PredictSettings) -> None:
    unknown = [name for name in settings.outputs if name not in _KINDS]
    if unknown:
        raise UsageError(f"outputs must be among {', '.join(_KINDS)}, got {unknown[0]!r}")
    if settings.mm_per_px is not None and not 0 < settings.mm_per_px < 1e6:
        raise UsageError(f"the scale must be above 0 mm per px, got {settings.mm_per_px:g}")
    if settings.max_pixels < 1 or settings.threads < 0:
        raise UsageError(
            "max_pixels must be at least 1 and threads at least 0, "
            f"got {settings.max_pixels} and {settings.threads}"
        )


class _Worker:
    """Takes one photo at a time, on any thread."""

    def __init__(
        self, bundle: Bundle, rule: Rule, settings: PredictSettings, folder: ResultFolder
    ) -> None:
        self.bundle, self.rule, self.settings, self.folder = bundle, rule, settings, folder
        self.threads = settings.threads or available_cores()
        self.stop = threading.Event()
        self.tiles = ThreadPoolExecutor(self.threads, "tiles")
        self.room = _Room(_PIXELS_AT_ONCE)
        bundle.session(1)  # made before threads could make it twice

    def is_done(self, source: Source, earlier: Record | None) -> bool:
        """Whether an earlier run finished this very file."""
        if earlier is None or earlier["status"] == "failed":
            return False
        if earlier["status"] == "skipped":
            return bool(source.skipped)
        size, changed = _stamp(source.path)
        same = (earlier["bytes"], earlier["mtime_ns"]) == (size, changed)
        return same and all(path.is_file() for path in self._files(source.key).values())

    def __call__(self, source: Source) -> Record:
        """The photo's line for the journal; never raises for what is wrong with the photo."""
        began = time.monotonic()
        if source.skipped:
            links = "link" in source.skipped
            return self._bad(source, "failed" if links else "skipped", source.skipped)
        try:
            return self._good(source, began)
        except ImageError as error:
            reason = str(error).removeprefix("cannot read ").strip()
            return self._bad(source, "failed", reason)

    def _good(self, source: Source, began: float) -> Record:
        limit = self.settings.max_pixels
        width, height = image_size(source.path, max_pixels=limit)
        size, changed = _stamp(source.path)
        with self.room.taken(width * height), opened_photo(source.path, max_pixels=limit) as photo:
            found = inspect_photo(
                self.bundle, photo, self.rule, pool=self.tiles, stopped=self.stop.is_set
            )
            files = self._files(source.key)
            if OVERLAYS in files:
                write_overlay(files[OVERLAYS], photo, found, self.bundle.target)
        if MASKS in files:
            write_found_mask(files[MASKS], found, self.bundle.target)
        if HEAT in files:
            write_heat(files[HEAT], found)
        if GEOJSON in files:
            digest = _sha256(source.path)
            write_geojson(files[GEOJSON], source.key, digest, found, self.bundle)
        return {
            "key": source.key,
            "status": "ok",
            "bytes": size,
            "mtime_ns": changed,
            "row": self._row(source.key, found, time.monotonic() - began),
            "defects": [self._defect(source.key, found, k) for k in range(len(found.regions))],
        }

    def _row(self, key: str, found: Inspected, seconds: float) -> list[Any]:
        place, regions = found.place, found.regions
        area = sum(region.area_px for region in regions)
        percent = round(100 * area / (place.width * place.height), 4)
        most = round(float(found.scores.max()), 4)
        size = (place.width, place.height, place.tiles, round(seconds, 3))
        return [key, *size, len(regions), area, percent, most, "ok", ""]

    def _defect(self, key: str, found: Inspected, k: int) -> list[Any]:
        region, scale = found.regions[k], self.settings.mm_per_px
        length, width = region.length_px, region.mean_width_px
        return [
            key,
            k + 1,
            self.bundle.target.name,
            round(region.score_mean, 4),
            round(region.score_max, 4),
            region.x,
            region.y,
            region.width,
            region.height,
            region.area_px,
            round(length, 1),
            round(width, 1),
            None if scale is None else round(length * scale, 2),
            None if scale is None else round(width * scale, 3),
            None,
            None,
            round(region.orientation_deg, 1),
        ]

    def _bad(self, source: Source, status: str, reason: str) -> Record:
        row = [source.key, *[None] * 8, status, reason]
        return {"key": source.key, "status": status, "row": row, "defects": []}

    def _files(self, key: str) -> dict[str, Path]:
        return {kind: self.folder.path(kind, key, _SUFFIX[kind]) for kind in self.settings.outputs}


class _Room:
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


def _carry_out(worker: _Worker, todo: list[Source], total: int, progress: Progress) -> None:
    """Photos beside each other, results in order; few wait, so memory does not grow."""
    earlier = total - len(todo)
    waiting: deque[Future[Record]] = deque()
    count = earlier
    photos = ThreadPoolExecutor(worker.threads + 1, "photos")
    try:
        for source in todo:
            waiting.append(photos.submit(worker, source))
            while len(waiting) > 2 * worker.threads + 2:
                worker.folder.add(waiting.popleft().result())
                count += 1
                progress("inspecting", count, total)
        while waiting:
            worker.folder.add(waiting.popleft().result())
            count += 1
            progress("inspecting", count, total)
    finally:
        worker.stop.set()
        photos.shutdown(wait=True, cancel_futures=True)
        worker.tiles.shutdown(wait=True, cancel_futures=True)


def _estimate(
    bundle: Bundle, rule: Rule, settings: PredictSettings, todo: list[Source], earlier: int
) -> Estimate:
    photos = [source for source in todo if not source.skipped]
    step = max(1, -(-len(photos) // _SAMPLE))
    tiles, readable = 0, 0
    for source in photos[::step]:
        try:
            size = image_size(source.path, max_pixels=settings.max_pixels)
        except FinickyError:
            continue
        readable += 1
        tiles += plan(*size, tile=bundle.tile_px, stride=rule.stride, cell=None).tiles
    tiles *= step
    seconds = tiles * _seconds_a_tile(bundle) / (settings.threads or available_cores())
    return Estimate(len(photos), earlier, tiles, seconds, step == 1)


def _seconds_a_tile(bundle: Bundle) -> float:
    session = bundle.session(1)
    tiles = np.full((4, bundle.tile_px, bundle.tile_px, 3), 128, np.uint8)
    session.run(tiles)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        session.run(tiles)
        best = min(best, time.perf_counter() - began)
    return best / len(tiles)


def _conditions(bundle: Bundle, rule: Rule, settings: PredictSettings) -> dict[str, Any]:
    """What must be the same for results to stand in one folder."""
    return {
        "model_sha256": bundle.sha256,
        "rule": asdict(rule),
        "outputs": list(settings.outputs),
        "mm_per_px": settings.mm_per_px,
        "max_pixels": settings.max_pixels,
        "table": asdict(settings.table),
    }


def _run(
    bundle: Bundle, rule: Rule, settings: PredictSettings, given: Sequence[str | Path]
) -> dict[str, Any]:
    return {
        "made_by": "finicky predict",
        "photos": [str(entry).encode("utf-8", "backslashreplace").decode() for entry in given],
        "recursive": settings.recursive,
        "conditions": _conditions(bundle, rule, settings),
        "model": bundle.name,
        "metadata": dict(bundle.metadata),
        "environment": environment(),
        "started": _now(),
        "finished": None,
        "counts": None,
    }


def _finish(
    folder: ResultFolder,
    order: list[str],
    run: dict[str, Any],
    bundle: Bundle,
    rule: Rule,
    began: float,
) -> PredictResult:
    folder.write_tables(order)
    counts = {"ok": 0, "failed": 0, "skipped": 0}
    hits = regions = 0
    errors: list[dict[str, str]] = []
    for record in folder.records(order):
        counts[record["status"]] += 1
        hits += bool(record["defects"])
        regions += len(record["defects"])
        if record["status"] == "failed" and len(errors) < 1000:
            name = record["key"].encode("utf-8", "backslashreplace").decode()
            reason = record["row"][-1].encode("utf-8", "backslashreplace").decode()
            errors.append({"file": name, "reason": reason})
    cell = bundle.map_px if rule.cell is not None else rule.stride
    facts = {
        "target": bundle.target.name,
        "model": bundle.name,
        "high": f"{rule.high:.2f}",
        "low": f"{rule.low:.2f}",
        "resolution": f"{cell:g}",
        "sha256": bundle.sha256,
    }
    write_page(folder, order, facts)
    write_json(folder.root / RUN, run | {"finished": _now(), "counts": counts, "errors": errors})
    return PredictResult(
        folder.root,
        counts["ok"],
        counts["failed"],
        counts["skipped"],
        hits,
        regions,
        time.monotonic() - began,
    )


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


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


__all__ = ["REPORT", "Estimate", "PredictResult", "PredictSettings", "predict"]
