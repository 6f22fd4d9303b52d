"""Latency of every candidate, each measured in turn with the unpruned network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from finicky.files import read_json, write_json
from finicky.progress import Progress, titled
from finicky.sweep.folder import LATENCY, ONNX, RunFolder
from finicky.sweep.table import Row
from finicky.timing import LatencyReport, LatencyStats, environment, measure_in_turn

LATENCY_COLUMNS = (
    *("latency_p50_ms", "latency_p95_ms", "latency_ratio"),
    *("latency_all_p50_ms", "latency_all_p95_ms", "latency_all_ratio"),
)
ONE_THREAD, ALL_CORES = 1, 0


def time_candidates(
    folder: RunFolder,
    names: Sequence[str],
    tile: np.ndarray,
    *,
    seconds: float,
    progress: Progress,
) -> dict[str, Row]:
    """Latency columns by candidate, at batch 1; what an earlier start measured is kept.

    Args:
        folder: Of the run.
        names: The unpruned network first.
        tile: ``(1, S, S, 3)`` uint8.
        seconds: For each candidate and thread setting; 0: nothing is measured.
        progress: Told of each candidate.
    """
    if seconds <= 0:
        return {}
    path = folder.root / LATENCY
    if path.is_file():
        timed: dict[str, Row] = read_json(path)["candidates"]
        if set(timed) == set(names):
            return timed
    files = [folder.candidate(name) / ONNX for name in names]
    reports = {
        threads: measure_in_turn(
            files[0],
            files[1:],
            inputs=tile,
            threads=threads,
            seconds_per_candidate=seconds,
            progress=titled(progress, f"latency, {title}"),
        )
        for threads, title in ((ONE_THREAD, "1 thread"), (ALL_CORES, "all cores"))
    }
    timed = {name: _row(reports, i) for i, name in enumerate(names)}
    intervals = {name: _intervals(reports, i) for i, name in enumerate(names)}
    value = {"environment": environment(), "batch": 1, "candidates": timed}
    write_json(path, value | {"ratio_intervals": intervals})
    folder.record("latency", [path])
    return timed


def _row(reports: Mapping[int, LatencyReport], index: int) -> Row:
    numbers: list[float] = []
    for threads in (ONE_THREAD, ALL_CORES):
        report = reports[threads]
        if index == 0:
            stats: LatencyStats = report.reference
            ratio = 1.0
        else:
            stats, ratio = report.candidates[index - 1].stats, report.candidates[index - 1].ratio
        numbers += [stats.p50_ms, stats.p95_ms, ratio]
    return dict(zip(LATENCY_COLUMNS, numbers, strict=True))


def _intervals(reports: Mapping[int, LatencyReport], index: int) -> list[list[float | None]]:
    """95 % intervals of the two ratios, one thread and all cores: how well each was measured."""
    if index == 0:
        return [[1.0, 1.0], [1.0, 1.0]]
    found = [reports[threads].candidates[index - 1] for threads in (ONE_THREAD, ALL_CORES)]
    return [
        [None if math.isnan(end) else end for end in (c.ratio_low, c.ratio_high)] for c in found
    ]
