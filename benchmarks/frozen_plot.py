"""Draw what `frozen.py` and the choice on validation gave: docs/evidence/frozen.png.

    python benchmarks/frozen_plot.py docs/evidence

Left column: validation, mean and range over the divisions of the photographs
(``frozen-choice.csv``). Right: test (``frozen.csv``), likewise.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

DATA = ("cfd", "crack500", "magnetic_tile")
Table = dict[tuple[str, str], dict[float, list[float]]]


def main() -> None:
    folder = Path(sys.argv[1])
    chosen = read(folder / "frozen-choice.csv", ("val_none", "val_fitted"))
    tested = read(folder / "frozen.csv", ("balanced_accuracy",))
    names = sorted({name for _, name in (*chosen, *tested)} - {"unpruned", "texture"})
    colours = {name: colormaps["tab20"](number) for number, name in enumerate(names)}
    figure = Figure(figsize=(11, 10), layout="constrained")
    for row, data in enumerate(DATA):
        for column, (table, title) in enumerate(((chosen, "validation"), (tested, "test"))):
            axes = figure.add_subplot(3, 2, 2 * row + column + 1)
            draw(axes, table, data, colours)
            axes.set(title=f"{data}, {title}", ylim=(0.45, 0.95), xscale="log", xlim=(0.045, 0.14))
            axes.set_xticks([0.05, 0.1], ["keep 0.05", "keep 0.1"])
            axes.set_xticks([], minor=True)
            axes.set_ylabel("balanced accuracy")
            axes.legend(fontsize="x-small", loc="lower right", ncols=2)
    figure.savefig(folder / "frozen.png", dpi=90)


def read(path: Path, columns: tuple[str, ...]) -> Table:
    """Of each data set and criterion, by keep ratio, the better column of every division."""
    found: Table = defaultdict(lambda: defaultdict(list))
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            value = max(float(row[c]) for c in columns)
            found[row["data"], row["criterion"]][float(row["keep_ratio"])].append(value)
    return found


def draw(axes, table: Table, data: str, colours: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    names = [name for where, name in table if where == data]
    for name in names:
        cells = table[data, name]
        if list(cells) == [1.0]:
            style = {"unpruned": "black", "texture": "grey"}[name]
            axes.axhline(np.mean(cells[1.0]), color=style, linestyle=":", label=name)
            continue
        ratios = sorted(cells)
        width = 3 if name == "coverage" else 1
        line = axes.plot(
            ratios,
            [np.mean(cells[r]) for r in ratios],
            linewidth=width,
            marker="o",
            markersize=3,
            color="black" if name == "coverage" else colours[name],
            label=name,
        )
        for ratio in ratios:
            axes.vlines(ratio, min(cells[ratio]), max(cells[ratio]), line[0].get_color(), alpha=0.4)


if __name__ == "__main__":
    main()
