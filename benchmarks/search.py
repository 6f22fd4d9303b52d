"""The search against the exhaustive sweep of 99 keep ratios: processor time, score of the choice.

    OMP_NUM_THREADS=1 python benchmarks/search.py DATA --runs FOLDER --out docs/evidence/search.csv
        [--backbone vgg16] [--tile 64] [--tiles-per-photo 2] [--photos 60] [--repair auto]

Both from labelled photos to the chosen candidate, one process, one thread; the map of the chosen
one, which both would train alike, is left out. The gap is what the decision function gives the best
of all on validation less what it gives the search's choice, both clocked in the exhaustive run.

Both may be stopped and go on. The search's time is that of all its starts together, so what is done
again after a stop (reading, ranking) counts against it. The exhaustive sweep's is what its
candidates took, logged one by one, and what came before the first and after the last; the first
candidate after a stop makes the ranking again, so it counts as its neighbours do.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from finicky.data.splits import read_split_csv
from finicky.project import Project
from finicky.sweep import Execution, SearchSettings, SweepResult, SweepSettings, run_sweep
from finicky.sweep.events import Event

FIELDS = (
    *("data", "backbone", "tile", "photos", "tiles", "repair"),
    *(
        "search_cpu_s",
        "search_starts",
        "glances",
        "evaluated",
        "all_cpu_s",
        "time_ratio",
        "resumed",
    ),
    *("choice", "choice_score", "best", "best_score", "gap"),
    *("choice_val_f1", "best_val_f1", "unpruned_val_f1"),
)
ONE = Execution(1)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--tiles-per-photo", type=int, default=2)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--repair", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGXCPU):
        signal.signal(number, stop)
    place = options.runs / f"{options.data.name}-{Path(options.backbone).name}"
    project = fewer(options.data, options.photos, place / "photos")
    settings = SweepSettings(
        backbone=options.backbone,
        tile=options.tile,
        tiles_per_photo=options.tiles_per_photo,
        repair=options.repair,
        seed=options.seed,
        keep_ratios=SearchSettings().grid,
        latency_seconds=0.2,
        maps=False,
    )
    looked = searched(project, place, settings)
    everything, seconds, resumed = swept(project, place, settings)
    row = {
        "data": options.data.name,
        "backbone": Path(options.backbone).name,
        "tile": options.tile,
        "photos": len(read_split_csv(project.root / "split.csv")),
        "repair": options.repair,
        "tiles": sum(1 for _ in (place / "all" / "tiles").rglob("*.png")),
        **looked,
        "all_cpu_s": round(seconds, 1),
        "time_ratio": round(looked["search_cpu_s"] / seconds, 4),
        "resumed": resumed,
        **compared(everything, looked["choice"]),
    }
    print(json.dumps(row), flush=True)
    add(options.out, row)


def fewer(data: Path, most: int, out: Path) -> Project:
    """The data set's first photos of every split, in its proportions, as a project."""
    listed = read_split_csv(data / "split.csv")
    keys = sorted(listed)
    kept = keys if len(keys) <= most else [keys[i] for i in range(0, len(keys), len(keys) // most)]
    if not (out / "split.csv").is_file():
        shutil.rmtree(out, ignore_errors=True)
        for key in kept:
            for folder in ("images", "masks"):
                # Photos without a defect may have no mask.
                for source in (data / folder).glob(f"{Path(key).with_suffix('')}.*"):
                    copy = out / folder / source.relative_to(data / folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, copy)
        lines = ["image,split,group", *(",".join((key, *listed[key])) for key in kept)]
        (out / "split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Project.open(out)


def searched(project: Project, place: Path, settings: SweepSettings) -> dict[str, Any]:
    """What the search took and chose."""
    told, log = place / "search.json", place / "search.jsonl"
    if not told.is_file():
        start = time.process_time()
        place.mkdir(parents=True, exist_ok=True)
        try:
            result = run_sweep(
                project, place / "search", settings, execution=ONE, search=SearchSettings()
            )
        finally:
            with log.open("a", encoding="utf-8") as stream:
                stream.write(f"{time.process_time() - start:.2f}\n")
        starts = [float(line) for line in log.read_text(encoding="utf-8").splitlines()]
        trail = json.loads((place / "search" / "search.json").read_text())["seen"]
        found = {
            "search_cpu_s": round(sum(starts), 1),
            "search_starts": len(starts),
            "glances": sum(one["share"] < 1 for one in trail),
            "evaluated": len(result.rows) - 1,
            "choice": result.chosen["candidate"],
        }
        told.write_text(json.dumps(found))
    value: dict[str, Any] = json.loads(told.read_text())
    return value


def swept(project: Project, place: Path, settings: SweepSettings) -> tuple[SweepResult, float, int]:
    """All ratios, processor time of all, and how often it was stopped."""
    log = place / "all.jsonl"
    last = time.process_time()
    again = log.is_file()

    def note(what: str, first: bool = False) -> None:
        nonlocal last
        now = time.process_time()
        with log.open("a", encoding="utf-8") as stream:
            line = {"what": what, "cpu_s": now - last, "first_after_stop": first}
            stream.write(json.dumps(line) + "\n")
        last = now

    def listen(event: Event) -> None:
        nonlocal last, again
        if event.kind == "candidate" and event.facts["status"] == "finished":
            note(event.facts["candidate"], again)
            again = False
        elif event.kind == "candidate":
            last = time.process_time()  # read, not made

    result = run_sweep(project, place / "all", settings, execution=ONE, listen=listen)
    note("end")
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    stops = sum(line["first_after_stop"] for line in lines)
    known = np.array([np.nan if x["first_after_stop"] else x["cpu_s"] for x in lines])
    gaps = np.isnan(known)
    order = np.arange(len(known))
    known[gaps] = np.interp(order[gaps], order[~gaps], known[~gaps])
    return result, float(known.sum()), stops


def compared(everything: SweepResult, choice: str) -> dict[str, Any]:
    """The search's choice among all candidates."""
    rows = {row["candidate"]: row for row in everything.rows}
    scored = {name: row for name, row in rows.items() if row["score"] is not None}
    best = max(scored, key=lambda name: float(scored[name]["score"]))
    return {
        "choice_score": round(float(rows[choice]["score"]), 5),
        "best": best,
        "best_score": round(float(rows[best]["score"]), 5),
        "gap": round(float(rows[best]["score"]) - float(rows[choice]["score"]), 5),
        "choice_val_f1": round(float(rows[choice]["val_f1"]), 5),
        "best_val_f1": round(float(rows[best]["val_f1"]), 5),
        "unpruned_val_f1": round(float(rows["keep-1"]["val_f1"]), 5),
    }


def add(path: Path, row: dict[str, Any]) -> None:
    """One row more."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
