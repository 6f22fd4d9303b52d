"""Many photos through a bundle into a folder of results: the whole inspection."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.edge.bundle import Bundle, open_bundle
from finicky.edge.geojson import write_points
from finicky.edge.inspect import Rule, rule_for
from finicky.edge.page import known, write_page
from finicky.edge.results import POINTS, RUN, Record, ResultFolder
from finicky.edge.scan import batch_size
from finicky.edge.sources import Source, find_photos
from finicky.edge.video import FRAMES, check_videos, frames_of, is_video
from finicky.edge.worker import PredictSettings, Worker
from finicky.errors import FinickyError
from finicky.files import write_json
from finicky.images import image_size
from finicky.progress import Progress, silent
from finicky.timing import environment

# Photos whose headers are read for the estimate; of more, so many are drawn evenly.
_SAMPLE = 1000


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


def untold(estimate: Estimate) -> None:
    """The default listener: nobody."""


def predict(
    bundle: Bundle | str | Path,
    photos: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: PredictSettings = PredictSettings(),
    *,
    progress: Progress = silent,
    announce: Callable[[Estimate], None] = untold,
) -> PredictResult:
    """Inspect photos and write tables, overlays, masks, outlines and a report.

    A photo that cannot be read is a row with the reason; it stops nothing and changes nothing in
    the results of others. Stopped at any moment, finished photos are whole, and the same call with
    ``resume`` goes on.

    Args:
        bundle: From `open_bundle`, or what that takes.
        photos: A file, folder, pattern, ``@list.txt``, or several of them; with the extra
            ``video`` also videos and cameras (``camera:0``), whose frames come to lie in ``out``.
        out: Folder of results; new, empty, or see ``resume`` and ``force``.
        settings: The rest.
        progress: Told of each photo.
        announce: Told once what lies ahead, before it begins.

    Raises:
        UsageError: An option is out of range, nothing is found, or ``out`` is not free.
        DataError: The bundle cannot be used, or results cannot be written.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    settings.check()
    rule = rule_for(opened, settings.inspect)
    root, began = Path(out), time.monotonic()
    given = [photos] if isinstance(photos, str | Path) else list(photos)
    videos = [entry for entry in given if is_video(entry)]
    check_videos(videos, resume=settings.resume)
    others = [entry for entry in given if not is_video(entry)]
    sources: list[Source] = []
    if others or not videos:
        sources = find_photos(others, recursive=settings.recursive, leave_out=root)
    folder = ResultFolder(root, opened.target.name, settings.table)
    folder.claim(_conditions(opened, rule, settings), resume=settings.resume, force=settings.force)
    run = _run(opened, rule, settings, given)
    if videos:
        write_json(root / RUN, run)  # so that frames alone can be gone on with
        limit, frames = settings.max_pixels, root / FRAMES
        sources += frames_of(videos, frames, settings.frames, max_pixels=limit, progress=progress)
    order = [source.key for source in sources]
    done = folder.start(run, order)
    worker = Worker(opened, rule, settings, folder)
    todo = [source for source in sources if not worker.is_done(source, done.get(source.key))]
    try:
        announce(_estimate(worker, todo, len(sources) - len(todo)))
        _carry_out(worker, todo, len(sources), progress)
        folder.close()
        return _finish(folder, order, run, opened, rule, began)
    finally:
        worker.stop.set()
        folder.close()


def _carry_out(worker: Worker, todo: list[Source], total: int, progress: Progress) -> None:
    """Photos beside each other, results in order; few wait, so memory does not grow."""
    earlier = total - len(todo)
    waiting: deque[Future[Record]] = deque()
    count = earlier
    progress("inspecting", count, total)
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


def _estimate(worker: Worker, todo: list[Source], earlier: int) -> Estimate:
    photos = [source for source in todo if not source.skipped]
    step = max(1, -(-len(photos) // _SAMPLE))
    tiles = 0
    for source in photos[::step]:
        try:
            size = image_size(source.path, max_pixels=worker.settings.max_pixels)
        except FinickyError:
            continue
        tiles += worker.rule.plan(worker.bundle, *size).tiles
    tiles *= step
    seconds = tiles * _seconds_a_tile(worker) if tiles else 0.0
    return Estimate(len(photos), earlier, tiles, seconds, step == 1)


def _seconds_a_tile(worker: Worker) -> float:
    """On all cores, timed on a batch of grey tiles for each; no decoding or writing."""
    side = worker.bundle.tile_px
    grey = np.full((batch_size(side), side, side, 3), 128, np.uint8)
    run = worker.bundle.session(1).run
    run(grey[:1])  # the first call takes longer
    began = time.perf_counter()
    for done in [worker.tiles.submit(run, grey) for _ in range(worker.threads)]:
        done.result()
    return (time.perf_counter() - began) / (worker.threads * len(grey))


def _conditions(bundle: Bundle, rule: Rule, settings: PredictSettings) -> dict[str, Any]:
    """What must be the same for results to stand in one folder."""
    return {
        "model_sha256": bundle.sha256,
        "rule": asdict(rule),
        "outputs": list(settings.outputs),
        "mm_per_px": settings.mm_per_px,
        "dpi_is_scale": settings.dpi_is_scale,
        "max_pixels": settings.max_pixels,
        "frames": asdict(settings.frames),
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
        "known": known(bundle.metadata),
    }
    write_page(folder, order, facts)
    write_points(folder.root / POINTS, _points(folder, order))
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


def _points(
    folder: ResultFolder, order: list[str]
) -> Iterator[tuple[float, float, Mapping[str, Any]]]:
    for record in folder.records(order):
        if record.get("at"):
            row, defects = record["row"], record["defects"]
            yield (
                *record["at"],
                {
                    "file": record["key"].encode("utf-8", "backslashreplace").decode(),
                    "regions": row[5],
                    "area_pct": row[7],
                    "max_score": row[8],
                    "longest_px": max((entry[10] for entry in defects), default=0),
                },
            )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


__all__ = ["Estimate", "PredictResult", "PredictSettings", "predict"]
