"""Processor time of a run's exported candidates, in turn, and the choice that goes by it.

    OMP_NUM_THREADS=1 python benchmarks/processor_time.py RUN [RUN ...] [--calls 150]

For machines that do other work: there a call that takes longer than a turn of the scheduler is
interrupted and a short one is not, so that the ratio of two times by the clock is worth nothing.
One tile a call, one thread of ONNX Runtime, medians. Prints a line a candidate; changes no file.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import onnxruntime

from finicky.selection import CandidateMeasure, choose


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--calls", type=int, default=150)
    options = parser.parse_args()
    for run in options.runs:
        with (run / "results.csv").open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if not row["failed"]]
        times = clocked(run, [row["candidate"] for row in rows], options.calls)
        measures = [measure(row, times) for row in rows]
        full = next(one for one in measures if one.keep_ratio == 1)
        choice = choose(measures, full)
        for one, score in zip(measures, choice.scores, strict=True):
            mark = "  chosen" if one is choice.chosen else ""
            print(
                f"{run.name} {one.name}: {one.latency_ms:.4f} ms, {one.latency_ratio:.2f} times "
                f"less, score {score:.5f}{mark}"
            )


def clocked(run: Path, names: list[str], calls: int) -> dict[str, float]:
    """Milliseconds of processor time a call, by candidate."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        name: onnxruntime.InferenceSession(
            str(run / "candidates" / name / "model.onnx"), options, ["CPUExecutionProvider"]
        )
        for name in names
    }
    shape = next(iter(sessions.values())).get_inputs()[0].shape
    tile = np.random.default_rng(0).integers(0, 255, (1, *shape[1:]), dtype=np.uint8)
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(calls + 1):  # the first call prepares
        for name, session in sessions.items():
            start = time.process_time()
            session.run(None, {session.get_inputs()[0].name: tile})
            found[name].append(time.process_time() - start)
    return {name: 1e3 * float(np.median(each[1:])) for name, each in found.items()}


def measure(row: dict[str, str], times: dict[str, float]) -> CandidateMeasure:
    return CandidateMeasure(
        name=row["candidate"],
        keep_ratio=float(row["keep_ratio"]),
        f1=float(row["val_f1"]),
        params=int(row["params"]),
        latency_ms=times[row["candidate"]],
        size_bytes=int(row["size_bytes"]),
        latency_ratio=times["keep-1"] / times[row["candidate"]],
    )


if __name__ == "__main__":
    main()
