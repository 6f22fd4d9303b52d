"""Tables from what `frozen.py` measured: means, and differences with intervals, over all divisions.

    python benchmarks/frozen_summary.py docs/evidence/frozen.csv DATA=FOLDER [DATA=FOLDER ...]

Each FOLDER is an ``--out`` of ``frozen.py``; several may be of one data set. The rows of all cells
go to the table; printed, for Markdown, are the means over the divisions that a criterion has, and
the default less each rival over the divisions that both have: all answers pooled, paired bootstrap
by photograph.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from finicky.evaluation import bootstrap_difference
from finicky.files import read_json
from finicky.importance import CRITERIA, DEFAULT_CRITERION
from finicky.sweep.compare import COLUMNS

PLAIN = ("unpruned", "texture")
Cells = dict[tuple[str, str, float, int], dict[str, Any]]


def main() -> None:
    out, *folders = sys.argv[1:]
    cells = read([one.split("=", 1) for one in folders])
    with Path(out).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(
            stream, ("data", *COLUMNS), restval="", extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows({"data": key[0], **cell} for key, cell in sorted(cells.items()))
    ratios = sorted({k for _, _, k, _ in cells if k < 1})
    sets = sorted({data for data, *_ in cells})
    names = sorted({name for _, name, *_ in cells}, key=order(cells, sets, ratios))
    print(means(cells, sets, ratios, names))
    print()
    print(differences(cells, sets, ratios, [n for n in names if n != DEFAULT_CRITERION]))


def read(folders: list[list[str]]) -> Cells:
    found: Cells = {}
    for data, folder in folders:
        for path in sorted(Path(folder).glob("cells/*.json")):
            cell = read_json(path)
            found[data, cell["criterion"], float(cell["keep_ratio"]), int(cell["seed"])] = cell
    return found


def of(cells: Cells, data: str, name: str, ratio: float) -> dict[int, dict[str, Any]]:
    """By seed; what has no keep ratio stands beside all."""
    ratio = 1.0 if name in PLAIN else ratio
    return {s: c for (d, n, k, s), c in cells.items() if (d, n, k) == (data, name, ratio)}


def order(cells: Cells, sets: list[str], ratios: list[float]) -> Any:
    """The best first, by the mean over all that was measured."""
    total = defaultdict(list)
    for data in sets:
        for ratio in ratios:
            for name in {n for _, n, *_ in cells}:
                found = of(cells, data, name, ratio).values()
                total[name] += [np.mean([c["balanced_accuracy"] for c in found])] if found else []
    return lambda name: (name in PLAIN, -np.mean(total[name]))


def means(cells: Cells, sets: list[str], ratios: list[float], names: list[str]) -> str:
    lines = [line(["criterion", *(f"{d} {r:g}" for d in sets for r in ratios), "mean"])]
    lines.append(line(["---"] * (len(sets) * len(ratios) + 2)))
    for name in names:
        row, values = [], []
        for data in sets:
            for ratio in ratios:
                scores = [c["balanced_accuracy"] for c in of(cells, data, name, ratio).values()]
                values.append(np.mean(scores) if scores else np.nan)
                spread = f" ({min(scores):.2f} to {max(scores):.2f})" if len(scores) > 1 else ""
                few = f" [{len(scores)}]" if len(scores) != 3 else ""
                row.append(f"{values[-1]:.3f}{spread}{few}" if scores else "")
        star = "*" if name in CRITERIA and CRITERIA[name].uses_masks else ""
        mean = "" if np.isnan(values).any() else f"{np.mean(values):.3f}"
        lines.append(line([name + star, *row, mean]))
    return "\n".join(lines)


def differences(cells: Cells, sets: list[str], ratios: list[float], rivals: list[str]) -> str:
    lines = [line(["against", *(f"{d} {r:g}" for d in sets for r in ratios)])]
    lines.append(line(["---"] * (len(sets) * len(ratios) + 1)))
    for name in rivals:
        row = []
        for data in sets:
            for ratio in ratios:
                ours = of(cells, data, DEFAULT_CRITERION, ratio)
                theirs = of(cells, data, name, ratio)
                row.append(difference(ours, theirs))
        lines.append(line([name, *row]))
    return "\n".join(lines)


def difference(ours: dict[int, dict[str, Any]], theirs: dict[int, dict[str, Any]]) -> str:
    """Of the divisions that both have, all answers pooled."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return ""
    labels, groups, mine = (
        np.concatenate([ours[s]["answers"][key] for s in seeds])
        for key in ("labels", "groups", "probabilities")
    )
    rival = np.concatenate([theirs[s]["answers"]["probabilities"] for s in seeds])
    found = bootstrap_difference(labels, mine, rival, groups)["balanced_accuracy"]
    few = f" [{len(seeds)}]" if len(seeds) != 3 else ""
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}){few}"


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
