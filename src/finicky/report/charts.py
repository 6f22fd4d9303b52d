"""The plots of the report, as matplotlib figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from finicky.report.chart_parts import (
    BAND,
    BEATEN,
    BEST,
    BLUE,
    DIAMOND,
    GREY,
    HALF,
    HOLLOW,
    INK,
    ORANGE,
    SKY,
    SOLID,
    WIDE,
    legend,
    log_x_percent,
    log_y,
    name_y,
    sign,
    styled,
)
from finicky.report.comparison import Comparison
from finicky.report.facts import RunFacts
from finicky.report.labels import place_labels
from finicky.report.wording import METRIC_NAMES, kept
from finicky.selection import pareto_front
from finicky.sweep.table import Row
from finicky.sweep.training_kinds import FINETUNE, FROZEN, KIND_WORDS, SCRATCH

PARAMS_LABEL = "parameters left (% of the full network, log scale)"
KEEP_LABEL = "filters kept (%, log scale)"
# Kinds of training differ in dash and mark, not in colour alone.
_DASHES: Mapping[str, Mapping[str, Any]] = {
    FINETUNE: {"linestyle": (0, (5, 2)), "marker": "^"},
    SCRATCH: {"linestyle": (0, (1, 2)), "marker": "v"},
}
TIME_LABEL = "time per tile, one thread (% of the full network, log scale)"


@styled
def difference_chart(comparison: Comparison) -> Figure:
    """Chosen minus full, a line a metric, with 95 % intervals around a zero line."""
    drawn = Figure(figsize=(HALF, 2.9))
    axes = drawn.subplots()
    reach = 1.0
    for row, metric in enumerate(METRIC_NAMES):
        found = comparison.differences[metric]
        value, low, high = (100 * v for v in (found.value, found.low, found.high))
        clear = comparison.verdict(metric) in ("better", "worse")
        color = INK if clear else GREY
        axes.plot([low, high], [row, row], color=color, linewidth=2.2, solid_capstyle="round")
        face = color if clear else "w"
        axes.plot([value], [row], "o", color=color, markersize=6.5, markerfacecolor=face)
        reach = max([reach, *(1.12 * abs(v) for v in (value, low, high) if not math.isnan(v))])
    axes.axvline(0, color=ORANGE, linewidth=1.2, zorder=1)
    axes.set(xlim=(-reach, reach), ylim=(len(METRIC_NAMES) - 0.4, -0.6))
    axes.set_yticks(range(len(METRIC_NAMES)), list(METRIC_NAMES.values()))
    axes.set_xlabel("chosen minus full network (percentage points, test)")
    axes.grid(visible=False, axis="y")
    name_y(axes, "metric")
    axes.yaxis.label.set_horizontalalignment("right")
    for x, side, text in ((0.48, "right", "← chosen worse"), (0.52, "left", "chosen better →")):
        axes.text(x, 1.02, text, transform=axes.transAxes, ha=side, va="bottom")
    return drawn


@styled
def quality_chart(facts: RunFacts) -> Figure:
    """Balanced accuracy, F1 and accuracy against the share of parameters left."""
    drawn = Figure(figsize=(WIDE, 3.9))
    panels = drawn.subplots(1, 3, sharey=True)
    for axes, metric in zip(panels, ("balanced_accuracy", "f1", "accuracy"), strict=True):
        _quality_panel(axes, facts, metric)
        name_y(axes, f"{METRIC_NAMES[metric]} (%)")
        log_x_percent(axes, _shares(facts), "parameters left (%, log scale)")
    full = (Patch(facecolor=BAND), Line2D([], [], color=GREY, linewidth=1.2))
    signs = {
        "test, bar: 95 % interval": sign(SOLID, ""),
        "validation, what the choice saw": sign(HOLLOW, ""),
        "full network on test, 95 % interval": full,
        "chosen": sign(DIAMOND, ""),
    }
    legend(drawn, list(signs.values()), list(signs))
    _tell_kinds(drawn, facts)
    return drawn


@styled
def cost_chart(facts: RunFacts) -> Figure:
    """File size, and time per tile, against the share of parameters left."""
    drawn = Figure(figsize=(WIDE, 3.7))
    left, right = drawn.subplots(1, 2)
    shares, megabytes = _shares(facts), _column(facts, "size_bytes") / 1e6
    _line(left, shares, megabytes, facts)
    log_y(left, megabytes, "file size (MB, log scale)")
    log_x_percent(left, shares, PARAMS_LABEL)
    log_x_percent(right, shares, PARAMS_LABEL)
    if facts.timed:
        _time_panel(right, facts)
        one, every = "one thread: median, bar up to p95", "all cores: the same"
        legend(drawn, [sign(SOLID, one), sign(HOLLOW, every), sign(DIAMOND, "chosen")])
    else:
        name_y(right, "time per tile (ms)")
        middle = {"transform": right.transAxes, "ha": "center", "va": "center"}
        right.text(0.5, 0.5, "times were not measured in this run", **middle)
        right.set_yticks([])
        legend(drawn, [sign(DIAMOND, "chosen")])
    return drawn


@styled
def keep_chart(facts: RunFacts) -> Figure:
    """Share of parameters left against the share of filters kept."""
    drawn = Figure(figsize=(HALF, 3.7))
    axes = drawn.subplots()
    ratios, percents = _column(facts, "keep_ratio"), 100 * _shares(facts)
    _line(axes, ratios, percents, facts)
    log_x_percent(axes, ratios, KEEP_LABEL)
    log_y(axes, percents, PARAMS_LABEL)
    return drawn


@styled
def score_chart(facts: RunFacts) -> Figure:
    """The decision function, on validation, against the share of filters kept."""
    drawn = Figure(figsize=(HALF, 3.7))
    axes = drawn.subplots()
    ratios, scores = _column(facts, "keep_ratio"), _column(facts, "score")
    _line(axes, ratios, scores, facts)
    log_x_percent(axes, ratios, KEEP_LABEL)
    name_y(axes, "score of the decision function (validation, no unit)")
    axes.margins(y=0.15)  # room for a name above the highest
    spot = (facts.chosen.number("keep_ratio"), facts.chosen.number("score"))
    place_labels(axes, [spot], [_label(facts.chosen.row)], lines=[(ratios, scores)])
    return drawn


@styled
def pareto_chart(facts: RunFacts) -> Figure:
    """Validation F1 against the time per tile; against parameters where nothing was timed."""
    drawn = Figure(figsize=(WIDE, 4.3))
    axes = drawn.subplots()
    cost = 1 / _column(facts, "latency_ratio") if facts.timed else _shares(facts)
    quality = 100 * _column(facts, "val_f1")
    front = pareto_front(quality, cost)
    order = np.flatnonzero(front)[np.argsort(cost[front], kind="stable")]
    # The corners of a line that goes right first and then up.
    stairs = np.repeat(cost[order], 2)[1:], np.repeat(quality[order], 2)[:-1]
    axes.plot(*stairs, color=SKY, linewidth=2, zorder=2)
    axes.plot(cost[~front], quality[~front], **BEATEN, zorder=3)
    axes.plot(cost[front], quality[front], **BEST, zorder=4)
    _mark(axes, cost, quality, facts)
    log_x_percent(axes, cost, TIME_LABEL if facts.timed else PARAMS_LABEL)
    name_y(axes, "F1 on validation (%)")
    cheaper = "faster" if facts.timed else "smaller"
    label = f"front: no other is {cheaper} and at least as good"
    on_front = sign({**BEST, "linestyle": "-"}, label)
    legend(drawn, [on_front, sign(BEATEN, "beaten by another"), sign(DIAMOND, "chosen")])
    _name_points(axes, facts, np.stack([cost, quality], axis=1), order, stairs)
    return drawn


def _name_points(
    axes: Axes,
    facts: RunFacts,
    spots: np.ndarray,
    front: np.ndarray,
    stairs: tuple[np.ndarray, np.ndarray],
) -> None:
    """Name the chosen network, then those on the front, then the others, as room allows."""
    ranked = dict.fromkeys([_chosen(facts), *front.tolist(), *range(len(spots))])
    known = [i for i in ranked if not np.isnan(spots[i]).any()]
    place_labels(
        axes,
        [(float(x), float(y)) for x, y in spots[known]],
        [_label(facts.rows[i]) for i in known],
        colors=[INK if i in front else GREY for i in known],
        lines=[stairs],
    )


def _quality_panel(axes: Axes, facts: RunFacts, metric: str) -> None:
    x = _shares(facts)
    test, low, high, seen = (
        100 * _column(facts, name)
        for name in (metric, f"{metric}_low", f"{metric}_high", f"val_{metric}")
    )
    full, *band = (100 * facts.full.number(f"{metric}{end}") for end in ("", "_low", "_high"))
    if not np.isnan(band).any():
        axes.axhspan(*band, color=BAND, zorder=0)
    axes.axhline(full, color=GREY, linewidth=1.2, zorder=1)
    _strands(axes, x, seen, facts, HOLLOW)
    axes.vlines(x, low, high, color=BLUE, linewidth=1.8)
    _line(axes, x, test, facts)


def _time_panel(axes: Axes, facts: RunFacts) -> None:
    x = _shares(facts)
    found = []
    for prefix, style in (("latency_all", HOLLOW), ("latency", SOLID)):
        median, slow = (_column(facts, f"{prefix}_{end}") for end in ("p50_ms", "p95_ms"))
        axes.vlines(x, median, slow, color=style["color"], linewidth=1.8)
        _strands(axes, x, median, facts, style)
        found += [median, slow]
    _mark(axes, x, _column(facts, "latency_p50_ms"), facts)
    log_y(axes, np.concatenate(found), "time per tile (ms, log scale)")


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, facts: RunFacts) -> None:
    _strands(axes, x, y, facts, SOLID)
    _mark(axes, x, y, facts)


def _strands(
    axes: Axes, x: np.ndarray, y: np.ndarray, facts: RunFacts, style: Mapping[str, Any]
) -> None:
    """A line through candidates of one kind of training and one depth, from the full network on."""
    kinds = [(row.get("train", FROZEN), row["depth"]) for row in facts.rows]
    usual = (FROZEN, "")
    for kind in dict.fromkeys(kinds):
        rows = [
            i
            for i, row in enumerate(facts.rows)
            if kinds[i] == kind or (kind != usual and row["keep_ratio"] == 1)
        ]
        if len(rows) > 1 or kind == usual:
            axes.plot(x[rows], y[rows], **{**style, **_DASHES.get(kind[0], {})})


def _mark(axes: Axes, x: np.ndarray, y: np.ndarray, facts: RunFacts) -> None:
    """The diamond of the chosen network."""
    number = _chosen(facts)
    axes.plot([x[number]], [y[number]], **DIAMOND, zorder=6)


def _tell_kinds(drawn: Figure, facts: RunFacts) -> None:
    """A second legend, where candidates differ in what was done after the cut."""
    kinds = list(dict.fromkeys(row.get("train", FROZEN) for row in facts.rows))
    if len(kinds) > 1:
        signs = [sign({**SOLID, **_DASHES.get(kind, {})}, "") for kind in kinds]
        told = [KIND_WORDS.get(kind, kind) for kind in kinds]
        drawn.legend(signs, told, loc="outside lower right", ncols=3)


def _chosen(facts: RunFacts) -> int:
    names = [row["candidate"] for row in facts.rows]
    return names.index(facts.chosen.row["candidate"])


def _column(facts: RunFacts, name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in facts.rows])


def _shares(facts: RunFacts) -> np.ndarray:
    return np.array([facts.share(row) for row in facts.rows])


def _label(row: Row) -> str:
    return "full network" if row["keep_ratio"] == 1 else f"keep {kept(row)}"
