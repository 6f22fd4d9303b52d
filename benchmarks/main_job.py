"""The main job on real photos, over several divisions of the photographs: the headline figures.

    python benchmarks/main_job.py DATA --runs FOLDER --out docs/evidence/NAME.csv
                                  [--backbone vgg16] [--seeds 0,1,2] [--method finicky]

Each seed moves photographs between training and validation, draws the head's subsets, the places
and the tiles anew, and runs ``finicky run`` with its defaults: the search. The test photographs are
those that the data set's ``split.csv`` sets aside; the choice never sees them. Written are every
candidate's row, and the paired difference of balanced accuracy to the unpruned network, with the
95 % interval by photograph.

Run folders stay in FOLDER, and a seed's rows are written when it is done: stopped, the same command
goes on. ``--clock`` takes the times of finished runs again, for a machine that is idle now.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

from finicky.evaluation import bootstrap_difference
from finicky.project import Project
from finicky.sweep import COLUMNS, Execution, SearchSettings, SweepSettings, run_sweep
from finicky.sweep.candidate import read_predictions
from finicky.sweep.folder import LATENCY
from finicky.timing import environment

PAIRED = ("difference", "difference_low", "difference_high", "seconds")
FIELDS = ("seed", *COLUMNS, *PAIRED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--method", default="finicky")
    parser.add_argument("--tile", type=int, default=96)
    parser.add_argument("--tiles-per-photo", type=int)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clock", action="store_true")
    parser.add_argument("--no-maps", action="store_true", help="They change no figure here.")
    options = parser.parse_args()
    print(environment())
    for seed in map(int, options.seeds.split(",")):
        kept = [row for row in _read(options.out) if row["seed"] != str(seed)]
        if len(kept) < len(_read(options.out)) and not options.clock:
            continue
        settings = SweepSettings(
            backbone=options.backbone,
            method=options.method,
            tile=options.tile,
            tiles_per_photo=options.tiles_per_photo,
            seed=seed,
            maps=not options.no_maps,
        )
        folder = options.runs / f"seed-{seed}"
        if options.clock:
            (folder / LATENCY).unlink(missing_ok=True)
        _write(options.out, kept + measure(options.data, folder, settings))


def _read(path: Path) -> list[dict]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: int(row["seed"])))


def measure(data: Path, folder: Path, settings: SweepSettings) -> list[dict]:
    """All rows of one seed; prints the chosen one."""
    start = time.monotonic()
    result = run_sweep(
        Project.open(data), folder, settings, execution=Execution(1), search=SearchSettings()
    )
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
