"""What ``finicky compare`` found: curves, areas and paired differences, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finicky.evaluation import bootstrap_difference
from finicky.files import atomic_path, write_text
from finicky.importance import CRITERIA
from finicky.sweep.compare import METHODS, CompareSettings, read_answers

PAGE, CURVES = "compare.md", "compare.png"
Row = dict[str, Any]


def write_comparison(out: Path, settings: CompareSettings, rows: Sequence[Row]) -> Path:
    """Write ``compare.md`` and ``compare.png`` beside the table; returns the page."""
    metric = "val_balanced_accuracy" if settings.validation_only else "balanced_accuracy"
    split = "validation" if settings.validation_only else "test"
    names = [n for n in settings.criteria if any(r["criterion"] == n for r in rows)]
    means = {(n, k): _mean(rows, n, k, metric) for n in names for k in _ratios(rows, n)}
    _draw(out / CURVES, names, means, f"balanced accuracy on {split}")
    parts = [
        f"# Criteria compared: {settings.sweep.backbone}, frozen, logistic head",
        f"Balanced accuracy on the {split} photos, mean over {len(settings.seeds)} divisions of "
        "the photos; criteria marked * look at masks. Area: under balanced accuracy against the "
        "logarithm of the keep ratio, over the range that was tried.",
        _table(names, settings.keep_ratios, means),
        f"![curves]({CURVES})",
    ]
    if not settings.validation_only and settings.reference in names:
        parts += [
            f"## {settings.reference} against each other criterion",
            "Difference of balanced accuracy on the test photos, all divisions pooled, with the 95 "
            "% interval (paired bootstrap by photograph): above 0 speaks for "
            f"{settings.reference}.",
            _differences(out, settings, names),
        ]
    parts += [note for note in [_warning(names, means)] if note]
    write_text(out / PAGE, "\n\n".join(parts) + "\n")
    return out / PAGE


def area(ratios: Sequence[float], values: Sequence[float]) -> float:
    """Mean height of a curve over the logarithm of its keep ratios; of one point, its value."""
    x, y = np.log(np.asarray(ratios, float)), np.asarray(values, float)
    order = np.argsort(x)
    if len(x) == 1:
        return float(y[0])
    return float(np.trapezoid(y[order], x[order]) / (x.max() - x.min()))


def _ratios(rows: Sequence[Row], name: str) -> list[float]:
    return sorted({float(r["keep_ratio"]) for r in rows if r["criterion"] == name})


def _mean(rows: Sequence[Row], name: str, ratio: float, metric: str) -> float:
    found = [r[metric] for r in rows if r["criterion"] == name and r["keep_ratio"] == ratio]
    return float(np.mean([np.nan if v is None else v for v in found]))


def _table(
    names: Sequence[str], ratios: Sequence[float], means: dict[tuple[str, float], float]
) -> str:
    columns = sorted(ratios)
    head = ["criterion", *(f"keep {r:g}" for r in columns), "area"]
    lines = [_line(head), _line(["---"] * len(head))]
    for name in names:
        star = "*" if name == "original" or (name in CRITERIA and CRITERIA[name].uses_masks) else ""
        if (name, 1.0) in means and name in METHODS:
            lines.append(_line([name, *[f"{means[name, 1.0]:.3f}"] * len(columns), ""]))
            continue
        values = [means[name, r] for r in columns]
        cells = [f"{v:.3f}" for v in values]
        lines.append(_line([name + star, *cells, f"{area(columns, values):.3f}"]))
    return "\n".join(lines)


def _differences(out: Path, settings: CompareSettings, names: Sequence[str]) -> str:
    columns = sorted(settings.keep_ratios)
    head = ["against", *(f"keep {r:g}" for r in columns)]
    lines = [_line(head), _line(["---"] * len(head))]
    for name in names:
        if name == settings.reference:
            continue
        cells = []
        for ratio in columns:
            theirs = 1.0 if name in ("unpruned", "texture") else ratio
            ours = [read_answers(out, settings.reference, ratio, s) for s in settings.seeds]
            other = [read_answers(out, name, theirs, s) for s in settings.seeds]
            labels, groups, a = (
                np.concatenate([cell[key] for cell in ours])
                for key in ("labels", "groups", "probabilities")
            )
            b = np.concatenate([cell["probabilities"] for cell in other])
            found = bootstrap_difference(labels, a, b, groups)["balanced_accuracy"]
            cells.append(f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})")
        lines.append(_line([name, *cells]))
    return "\n".join(lines)


def _warning(names: Sequence[str], means: dict[tuple[str, float], float]) -> str:
    """A network that loses to a histogram must know it."""
    if "texture" not in names or "unpruned" not in names:
        return ""
    plain, full = means["texture", 1.0], means["unpruned", 1.0]
    if plain < full:
        return ""
    return (
        f"**Intensity and texture statistics of a tile alone reach {plain:.3f}, the unpruned "
        f"network {full:.3f}: this defect is merely dark or rough, and may need no network.**"
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _draw(
    path: Path, names: Sequence[str], means: dict[tuple[str, float], float], title: str
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(n for n in names if n not in ("unpruned", "texture")):
        ratios = sorted(k for n, k in means if n == name)
        masks = name == "original" or CRITERIA[name].uses_masks
        style = "-" if masks else "--"
        values = [means[name, r] for r in ratios]
        axes.plot(ratios, values, style, marker="o", color=f"C{number % 10}", label=name)
    for name, colour in (("unpruned", "black"), ("texture", "grey")):
        if (name, 1.0) in means:
            axes.axhline(means[name, 1.0], color=colour, linestyle=":", label=name)
    axes.set(xscale="log", xlabel="keep ratio", ylabel=title)
    axes.legend(fontsize="small", ncols=2)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
