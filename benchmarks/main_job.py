"""The main job on real photos, over several divisions of the photographs: the headline figures.

    python benchmarks/main_job.py DATA [--backbone vgg16] [--seeds 0,1,2] [--method finicky]
                                  [--out docs/evidence/NAME.csv]

Each seed moves photographs between training and validation, draws the head's subsets, the places
and the tiles anew, and runs ``finicky run`` with its defaults. The test photographs are those that
the data set's ``split.csv`` sets aside; the choice never sees them. Written are every candidate's
row, and for the chosen one the paired difference of balanced accuracy to the unpruned network, with
the 95 % interval by photograph.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

from finicky.evaluation import bootstrap_difference
from finicky.project import Project
from finicky.sweep import COLUMNS, SweepSettings, run_sweep
from finicky.sweep.candidate import read_predictions
from finicky.timing import environment

PAIRED = ("difference", "difference_low", "difference_high", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--method", default="finicky")
    parser.add_argument("--tile", type=int, default=96)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(environment())
    rows = []
    for seed in map(int, options.seeds.split(",")):
        settings = SweepSettings(
            backbone=options.backbone, method=options.method, tile=options.tile, seed=seed
        )
        rows += measure(options.data, settings)
        if options.out:
            with options.out.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, ["seed", *COLUMNS, *PAIRED], extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)


def measure(data: Path, settings: SweepSettings) -> list[dict]:
    """All rows of one seed; prints the chosen one."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = run_sweep(Project.open(data), Path(folder) / "run", settings)
        seconds = time.monotonic() - start
        files = result.folder
        rows = []
        full = read_predictions(files.candidate("keep-1") / "predictions.npz")
        test = full["splits"] == "test"
        for row in result.rows:
            mine = read_predictions(files.candidate(row["candidate"]) / "predictions.npz")
            found = bootstrap_difference(
                full["labels"][test],
                mine["by_seed"][:, test],
                full["by_seed"][:, test],
                full["groups"][test],
            )["balanced_accuracy"]
            paired = dict(zip(PAIRED, (found.value, found.low, found.high, seconds), strict=True))
            rows.append({"seed": settings.seed, **row, **paired})
    chosen = next(row for row in rows if row["selected"])
    print(
        f"{data.name} seed {settings.seed}: keep {chosen['keep_ratio']:g}, "
        f"{chosen['params'] / result.full['params']:.1%} of the parameters, "
        f"{chosen['latency_ratio']:.1f} times faster (1 thread), "
        f"{chosen['latency_all_ratio']:.1f} (all cores); balanced accuracy "
        f"{chosen['balanced_accuracy']:.3f} against {result.full['balanced_accuracy']:.3f}, "
        f"difference {chosen['difference']:+.3f} ({chosen['difference_low']:+.3f} to "
        f"{chosen['difference_high']:+.3f}); {seconds:.0f} s",
        flush=True,
    )
    return rows


if __name__ == "__main__":
    main()
