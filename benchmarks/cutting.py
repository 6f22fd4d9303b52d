"""How long does it take to cut VGG16 at 100 keep ratios, and are the channels those of 2021?

    python benchmarks/cutting.py --data ../shared/reference/original_run --method finicky
    python benchmarks/cutting.py --data ../shared/reference/original_run --method original \
        --keep 0.2

Runs ``finicky prune`` as a person would, in a process of its own, on the 20 photos that the
original scripts were timed on. Prints one line of JSON: wall time and CPU time of the whole
command, start-up and written files included, and, for ``original``, in how many layers the kept
channels equal those of ``kept_channels.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Folder with images and masks.")
    parser.add_argument("--method", default="finicky")
    parser.add_argument("--keep", default="0.01:1:0.01")
    parser.add_argument("--out", type=Path, help="Where networks go; default: a temporary folder.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary) / "networks"
        start = time.perf_counter()
        command = [
            *(sys.executable, "-c", "from finicky.cli import main; main()"),
            *("prune", "--photos", str(options.data / "images")),
            *("--masks", str(options.data / "masks")),
            *("--method", options.method, "--keep", options.keep, "--out", str(out)),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        plans = [json.loads(p.read_text()) for p in sorted(out.rglob("plan.json"))]
        size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    print(
        json.dumps(
            {
                "method": options.method,
                "networks": len(plans),
                "wall_s": round(wall, 1),
                "cpu_s": round(used.ru_utime + used.ru_stime, 1),
                "peak_memory_mb": round(used.ru_maxrss / 1024),
                "written_mb": round(size / 1e6),
                "cores": os.cpu_count(),
                "layers_as_the_original": agreement(options.data / "kept_channels.json", plans),
            }
        )
    )


def agreement(reference: Path, plans: list[dict]) -> dict[str, str]:
    """By keep ratio that the reference has: in how many layers the kept channels are its own."""
    runs = json.loads(reference.read_text())["runs"] if reference.is_file() else {}
    found = {}
    for plan in plans:
        run = runs.get(f"{plan['keep_ratio']:g}")
        if run is not None and plan["method"] == "original":
            same = sum(plan["kept"][layer] == kept for layer, kept in run["kept"].items())
            found[f"{plan['keep_ratio']:g}"] = f"{same} of {len(run['kept'])}"
    return found


if __name__ == "__main__":
    main()
