"""What the decision function would choose among the networks that `frozen.py` measured.

    python benchmarks/headline.py CELLS TIMES.csv --out docs/evidence/NAME.csv

CELLS: an ``--out`` of ``frozen.py --round-to 16`` with the default criterion at several keep ratios
and with ``unpruned``. TIMES.csv: rows of ``main_job.py`` of the same network and tile, which were
clocked in turn with the unpruned one; how fast a network is follows from its channel counts alone,
so a row counts only where parameters and operations are the same. The choice sees validation, its
difference to the unpruned network is on test: paired bootstrap by photograph, 95 %.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from finicky.evaluation import bootstrap_difference
from finicky.files import read_json
from finicky.selection import CandidateMeasure, choose

FIELDS = (
    *("seed", "keep_ratio", "repair", "params", "params_share", "macs", "faster", "faster_all"),
    *("val_f1", "val_balanced_accuracy", "score", "chosen"),
    *("balanced_accuracy", "unpruned", "difference", "difference_low", "difference_high"),
)
Cell = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cells", type=Path)
    parser.add_argument("times", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    times = read_times(options.times)
    by_seed: dict[int, list[Cell]] = defaultdict(list)
    for path in sorted(options.cells.glob("cells/*.json")):
        cell = read_json(path)
        if cell["criterion"] != "texture":
            by_seed[cell["seed"]].append(cell)
    rows = [row for seed in sorted(by_seed) for row in judged(by_seed[seed], times)]
    with options.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        mark = "chosen" if row["chosen"] else ""
        print(
            f"seed {row['seed']} keep {row['keep_ratio']:g}: {row['params_share']:.2%}, "
            f"{row['faster']:.1f} / {row['faster_all']:.1f} times, {row['balanced_accuracy']:.3f} "
            f"against {row['unpruned']:.3f}, {row['difference']:+.3f} "
            f"({row['difference_low']:+.3f} to {row['difference_high']:+.3f}) "
            f"score {row['score']:.3f} {row['repair']} {mark}"
        )
    print()
    for line in by_ratio(rows, by_seed):
        print(line)


def read_times(path: Path) -> dict[tuple[int, int], tuple[float, float]]:
    """By parameters and operations: times faster on one thread, on all cores; mean over seeds."""
    found: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            ratios = (float(row["latency_ratio"]), float(row["latency_all_ratio"]))
            found[int(row["params"]), int(row["macs"])].append(ratios)
    return {key: tuple(np.mean(rows, axis=0)) for key, rows in found.items()}


def judged(cells: list[Cell], times: dict[tuple[int, int], tuple[float, float]]) -> list[Cell]:
    """One division's rows, largest ratio first."""
    full = next(cell for cell in cells if cell["criterion"] == "unpruned")
    reference = measure(full, times)
    pruned = sorted((c for c in cells if c is not full), key=lambda cell: -cell["keep_ratio"])
    choice = choose([measure(cell, times) for cell in pruned], reference)
    rows = []
    for number, cell in enumerate(pruned):
        labels, groups, mine = (
            np.asarray(cell["answers"][key]) for key in ("labels", "groups", "probabilities")
        )
        theirs = np.asarray(full["answers"]["probabilities"])
        off = bootstrap_difference(labels, mine, theirs, groups)["balanced_accuracy"]
        faster = times[cell["params"], cell["macs"]]
        rows.append(
            {name: cell[name] for name in FIELDS if name in cell}
            | {
                "params_share": round(cell["params"] / full["params"], 5),
                "faster": round(faster[0], 2),
                "faster_all": round(faster[1], 2),
                "score": round(choice.scores[number], 5),
                "chosen": int(number == choice.index),
                "unpruned": full["balanced_accuracy"],
                "difference": round(off.value, 4),
                "difference_low": round(off.low, 4),
                "difference_high": round(off.high, 4),
            }
        )
    return rows


def measure(cell: Cell, times: dict[tuple[int, int], tuple[float, float]]) -> CandidateMeasure:
    ratio = 1.0 if cell["keep_ratio"] == 1 else times[cell["params"], cell["macs"]][0]
    return CandidateMeasure(
        name=f"{cell['keep_ratio']:g}",
        keep_ratio=cell["keep_ratio"],
        f1=cell["val_f1"],
        params=cell["params"],
        latency_ms=1 / ratio,
        size_bytes=4 * cell["params"],
        latency_ratio=ratio,
    )


def by_ratio(rows: list[Cell], by_seed: dict[int, list[Cell]]) -> list[str]:
    """Means over the divisions, and all their answers pooled, for Markdown."""
    lines = []
    for ratio in sorted({row["keep_ratio"] for row in rows}, reverse=True):
        here = [row for row in rows if row["keep_ratio"] == ratio]
        scores = [row["balanced_accuracy"] for row in here]
        lines.append(
            f"| {ratio:g} | {here[0]['params_share']:.2%} | {here[0]['faster']:.1f} / "
            f"{here[0]['faster_all']:.1f} | {', '.join(f'{score:.3f}' for score in scores)} | "
            f"{pooled([by_seed[row['seed']] for row in here], ratio)} | "
            f"{sum(row['repair'] != 'none' for row in here)} of {len(here)} |"
        )
    return lines


def pooled(divisions: list[list[Cell]], ratio: float) -> str:
    """Difference to the unpruned network over several divisions, by photograph."""
    labels, groups, mine, full = [], [], [], []
    for cells in divisions:
        ours = next(c for c in cells if c["keep_ratio"] == ratio)["answers"]
        theirs = next(c for c in cells if c["criterion"] == "unpruned")["answers"]
        labels += ours["labels"]
        groups += ours["groups"]
        mine += ours["probabilities"]
        full += theirs["probabilities"]
    found = bootstrap_difference(labels, mine, full, np.array(groups))["balanced_accuracy"]
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


if __name__ == "__main__":
    main()
