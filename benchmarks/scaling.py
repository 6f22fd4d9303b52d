"""One process, workers and Ray on the same exhaustive sweep: seconds, efficiency, same bytes.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py --out DIR --count 100 --ways 1,2,ray2

Alone on the machine, in one call. AlexNet of random weights on generated photos: the smaller the
network, the larger the share of whatever workers and Ray add. What counts is from the first to the
last candidate: inputs are opened, and processes started, within it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from finicky.data.surfaces import write_surfaces
from finicky.files import sha256_file
from finicky.project import Project
from finicky.sweep import Execution, SweepSettings, run_sweep
from finicky.sweep.events import Event


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--photos", type=int, default=14)
    parser.add_argument("--ways", default="1,2")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    write_surfaces(args.out / "project", args.photos, seed=3, width=256, height=192)
    project = Project.open(args.out / "project")
    settings = SweepSettings(
        backbone="alexnet",
        weights="random",
        repair="none",
        keep_ratios=tuple(round((n + 1) / args.count, 4) for n in range(args.count - 1)),
        tile=64,
        head_seeds=1,
        latency_seconds=0,
        maps=False,
    )
    tables, first = set(), 0.0
    for way in args.ways.split(","):
        ray = way.startswith("ray")
        execution = Execution(int(way.removeprefix("ray")), "ray" if ray else "local")
        times: list[float] = []

        def listen(event: Event, times: list[float] = times) -> None:
            if event.kind in ("started", "candidate"):
                times.append(time.monotonic())

        out = args.out / way
        start = time.monotonic()
        run_sweep(project, out, settings, execution=execution, listen=listen)
        seconds, total = times[-1] - times[0], time.monotonic() - start
        tables.add(sha256_file(out / "results.csv"))
        first = first or seconds
        found = {
            "way": way,
            "candidates": len(times) - 1,
            "seconds": round(seconds, 1),
            "until_first_s": round(times[1] - times[0], 1),
            "total_s": round(total, 1),
            "speedup": round(first / seconds, 3),
            "efficiency": round(first / seconds / execution.workers, 3),
            "tables": len(tables),
        }
        print(json.dumps(found), flush=True)
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
