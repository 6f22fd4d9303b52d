"""What the cells of ``benchmarks/training.py`` say together: tables and a plot.

    python benchmarks/training_summary.py FOLDER docs/evidence/training.csv docs/images/training.svg

Prints tables for ``docs/evidence/training.md``. The mean over seeds and its 95 % interval come from
a bootstrap over test photographs, which are the same for all seeds; differences see the same draws.
``frozen`` is what ``finicky run`` would take of none and reconstruct on validation, ``chosen`` what
it would take of frozen, fine-tuned and scratch, both with masks: by validation alone, seed by seed.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from finicky.evaluation import bootstrap_difference, bootstrap_metrics
from finicky.files import read_json

Cell = dict[str, Any]
FROZEN, CHOSEN = "frozen", "chosen"
KINDS = (FROZEN, "finetune+mask", "scratch+mask")
SHOWN = ("unpruned", "none", "rescale", "reconstruct", FROZEN, "finetune", "finetune+mask")
SHOWN += ("distil", "scratch", "scratch+mask", CHOSEN)
COLUMNS = ("data", "photos", "seed", "regime", "keep_ratio", "tile", "train_tiles", "dense_tiles")
COLUMNS += ("val_tiles", "test_tiles", "val_balanced_accuracy", "val_brier", "balanced_accuracy")
COLUMNS += ("low", "high", "auroc", "best_epoch")


def read_cells(folder: Path) -> dict[tuple[str, int], dict[str, dict[int, Cell]]]:
    """(data, photos) -> regime -> seed -> cell, with what the tool would have chosen."""
    found: dict[tuple[str, int], dict[str, dict[int, Cell]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for path in sorted(folder.glob("*.json")):
        cell = read_json(path)
        found[cell["data"], cell["photos"]][cell["regime"]][cell["seed"]] = cell
    for regimes in found.values():
        _choose(regimes, FROZEN, ("reconstruct", "none"))
        _choose(regimes, CHOSEN, KINDS)
    return found


def _choose(regimes: dict[str, dict[int, Cell]], name: str, among: Iterable[str]) -> None:
    """The best on validation, seed by seed; ties go to the first, the cheaper."""
    options = [regimes[each] for each in among if each in regimes]
    for seed in set.intersection(*(set(option) for option in options)) if options else ():
        regimes[name][seed] = max(
            (option[seed] for option in options), key=lambda cell: cell["val_balanced_accuracy"]
        )


def answers(cells: dict[int, Cell], seeds: Iterable[int]) -> np.ndarray:
    return np.array([cells[seed]["probabilities"] for seed in seeds])


def told(cells: dict[int, Cell]) -> str:
    """Mean over seeds, interval, and the seeds one by one."""
    seeds = sorted(cells)
    first = cells[seeds[0]]
    all_of = bootstrap_metrics(first["labels"], answers(cells, seeds), first["groups"], seed=0)
    value = all_of["balanced_accuracy"]
    each = ", ".join(f"{cells[s]['balanced_accuracy']:.2f}" for s in seeds)
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f}; {each})"


def gain(mine: dict[int, Cell], theirs: dict[int, Cell]) -> str:
    """Paired difference over the seeds that both have."""
    seeds = sorted(set(mine) & set(theirs))
    if not seeds:
        return "–"
    first = mine[seeds[0]]
    found = bootstrap_difference(
        first["labels"], answers(mine, seeds), answers(theirs, seeds), first["groups"], seed=0
    )["balanced_accuracy"]
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}; {len(seeds)} seeds)"


PAIRS = (
    ("reconstruct", "none"),
    ("rescale", "none"),
    ("finetune+mask", FROZEN),
    ("finetune+mask", "finetune"),
    ("scratch+mask", "scratch"),
    ("scratch+mask", FROZEN),
    ("finetune+mask", "scratch+mask"),
    ("distil", "finetune+mask"),
    (CHOSEN, FROZEN),
    (CHOSEN, "scratch"),
    (CHOSEN, "scratch+mask"),
    (FROZEN, "unpruned"),
    ("scratch+mask", "unpruned"),
    (CHOSEN, "unpruned"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("plot", type=Path)
    given = parser.parse_args()
    found = read_cells(given.folder)
    for photos in sorted({photos for _, photos in found}):
        sets = sorted(data for data, own in found if own == photos)
        print(f"\n### {photos} labelled photos\n\n| | {' | '.join(sets)} |")
        print("|---" * (len(sets) + 1) + "|")
        for regime in SHOWN:
            line = [found[data, photos].get(regime) for data in sets]
            if any(line):
                print(f"| {regime} | {' | '.join(told(c) if c else '–' for c in line)} |")
        print(f"\n| difference | {' | '.join(sets)} |")
        print("|---" * (len(sets) + 1) + "|")
        for a, b in PAIRS:
            line = [gain(found[d, photos].get(a, {}), found[d, photos].get(b, {})) for d in sets]
            if any(each != "–" for each in line):
                print(f"| {a} − {b} | {' | '.join(line)} |")
    with given.table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for path in sorted(given.folder.glob("*.json")):
            writer.writerow(read_json(path))
    draw(found, given.plot)


def draw(found: dict[tuple[str, int], dict[str, dict[int, Cell]]], path: Path) -> None:
    """A panel a data set and number of photos: every seed a dot, the mean a bar."""
    keys = sorted(found, key=lambda key: (key[1], key[0]))
    rows = [r for r in SHOWN if any(found[key].get(r) for key in keys) and r not in KINDS[:1]]
    counts = sorted({photos for _, photos in keys})
    sets = sorted({data for data, _ in keys})
    figure = Figure(figsize=(3.3 * len(sets) + 1, 0.3 * len(rows) * len(counts) + 1.2))
    panels = figure.subplots(len(counts), len(sets), squeeze=False, sharex=True, sharey=True)
    for (data, photos), axes in ((k, panels[counts.index(k[1])][sets.index(k[0])]) for k in keys):
        for y, regime in enumerate(rows):
            cells = found[data, photos].get(regime, {})
            values = [cell["balanced_accuracy"] for cell in cells.values()]
            if values:
                axes.plot(values, [y] * len(values), "o", color="#56B4E9", markersize=5)
                axes.plot([np.mean(values)], [y], "|", color="#D55E00", markersize=14, mew=2.5)
        axes.set_title(f"{data}, {photos} photos", fontsize=10, loc="left")
        axes.axvline(0.5, color="#5b6773", linewidth=0.8)
        axes.grid(color="#e3e8ec")
        axes.set_axisbelow(True)
    panels[0][0].set_yticks(range(len(rows)), rows)
    panels[0][0].set_ylim(len(rows) - 0.5, -0.5)
    for axes in panels[-1]:
        axes.set_xlabel("balanced accuracy, test photos")
    figure.set_layout_engine("constrained")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
