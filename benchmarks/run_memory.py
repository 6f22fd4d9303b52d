"""Peak memory of ``finicky run`` by the number of tiles.

    OMP_NUM_THREADS=1 python benchmarks/run_memory.py --out FOLDER [--per-photo 11,0]

The same generated photographs each time, of which fewer or more tiles are taken; AlexNet with
random weights, cut to a tenth so that it is quick; one keep ratio, no map. Each run is a process of
its own; its peak is what the system counted for it (``ru_maxrss``). A finished run is not done
again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from finicky.data.surfaces import write_surfaces

TILE = 64
COMMAND = "from finicky.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-photo", default="11,0", help="tiles of each class; 0: all")
    parser.add_argument("--photos", type=int, default=96)
    options = parser.parse_args()
    project = options.out / "project"
    if not (project / "photos").is_dir():
        write_surfaces(project, options.photos, seed=5, width=1152, height=832)
    small = options.out / "small"
    if not (small / "plan.json").is_file():
        shutil.rmtree(small, ignore_errors=True)
        cut(project, small)
    peaks = []
    for limit in map(int, options.per_photo.split(",")):
        told = options.out / f"{limit}.json"
        if not told.is_file():
            told.write_text(
                json.dumps(measure(project, small, options.out / f"run-{limit}", limit))
            )
        found = json.loads(told.read_text())
        print(json.dumps(found), flush=True)
        peaks.append(found["peak_mb"])
    print(f"{peaks[-1] / peaks[0]:.2f} times")


def cut(project: Path, out: Path) -> None:
    command = ["prune", "--photos", str(project / "photos"), "--masks", str(project / "masks")]
    command += ["--backbone", "alexnet", "--weights", "random", "--keep", "0.1"]
    command += ["--criterion", "l1", "--out", str(out)]
    subprocess.run([sys.executable, "-c", COMMAND, *command], check=True)


def measure(project: Path, backbone: Path, run: Path, limit: int) -> dict:
    """One run: tiles made, and the peak of its process."""
    command = [sys.executable, "-c", COMMAND, "run", str(project), "--out", str(run)]
    command += ["--backbone", str(backbone), "--tile", str(TILE), "--keep", "0.5"]
    command += ["--no-maps", "--latency-seconds", "0", "--workers", "1", "--seeds", "1"]
    command += ["--tiles-per-photo", str(limit)] if limit else []
    start = time.monotonic()
    child = os.spawnv(os.P_NOWAIT, sys.executable, command)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    tiles = sum(1 for _ in (run / "tiles").rglob("*.png"))
    return {
        "tiles": tiles,
        "peak_mb": round(usage.ru_maxrss / 1024),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "seconds": round(time.monotonic() - start, 1),
    }


if __name__ == "__main__":
    main()
