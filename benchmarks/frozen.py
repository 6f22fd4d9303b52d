"""Frozen weights and a logistic head: every criterion against every other, on real photos.

    python benchmarks/frozen.py ../shared/data/cfd --out FOLDER [--validation-only]
        [--criteria a,b] [--keep 0.05,0.1] [--seeds 0,1,2] [--repair auto] [--tile 96]
        [--tiles-per-photo 2] [--round-to 1]

One row a cell, kept in the folder: stopped, the same command goes on. First with
``--validation-only`` (into its own folder), to choose; then once with the test photographs.
A seed moves photographs between training and validation and draws everything else anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from finicky.importance import CRITERIA, WindowOptions
from finicky.project import Project
from finicky.report.criteria import write_comparison
from finicky.sweep import SweepSettings
from finicky.sweep.compare import METHODS, CompareSettings, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--criteria")
    parser.add_argument("--keep", default="0.05,0.1")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--repair", default="auto")
    parser.add_argument("--tile", type=int, default=96)
    parser.add_argument("--tiles-per-photo", type=int, default=2)
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--round-to", type=int, default=1)
    parser.add_argument("--validation-only", action="store_true")
    options = parser.parse_args()
    names = tuple(options.criteria.split(",")) if options.criteria else default_criteria()
    sweep = SweepSettings(
        backbone=options.backbone,
        repair=options.repair,
        round_to=options.round_to,
        tile=options.tile,
        tiles_per_photo=options.tiles_per_photo,
        head_seeds=1,
    )
    settings = CompareSettings(
        sweep,
        names,
        tuple(float(r) for r in options.keep.split(",")),
        tuple(int(s) for s in options.seeds.split(",")),
        validation_only=options.validation_only,
        # As large as a tile, so that criteria by pixels see what those by tiles do, and no more.
        windows=WindowOptions(size=options.tile, per_photo=options.tiles_per_photo),
    )
    start = time.monotonic()
    rows = compare(Project.open(options.data), options.out, settings)
    write_comparison(options.out, settings, rows)
    print(f"{len(rows)} cells, {time.monotonic() - start:.0f} s", file=sys.stderr)


def default_criteria() -> tuple[str, ...]:
    """All but bn-scale, which VGG16 cannot have."""
    return (*(n for n in CRITERIA if n != "bn-scale"), *METHODS)


if __name__ == "__main__":
    main()
