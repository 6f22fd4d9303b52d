"""The report's tables, as text that the page only has to set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from finicky.report import wording as w
from finicky.report.comparison import Comparison
from finicky.report.facts import Network, RunFacts
from finicky.sweep.table import Row


@dataclass(frozen=True)
class Tile:
    """One number of the headline: the chosen network's, what that means, and the full one's."""

    label: str
    value: str
    change: str
    full: str


@dataclass(frozen=True)
class Line:
    """A row of "chosen against full"; ``*_note`` is set smaller, below."""

    name: str
    chosen: str
    chosen_note: str
    full: str
    full_note: str
    change: str
    change_note: str
    verdict: str


@dataclass(frozen=True)
class Confusion:
    """The four counts of a deployed network on test, and what they mean."""

    tn: int
    fp: int
    fn: int
    tp: int

    @property
    def positives(self) -> int:
        return self.tp + self.fn

    @property
    def negatives(self) -> int:
        return self.tn + self.fp

    @property
    def missed(self) -> str:
        """Share of the tiles with the target that were missed."""
        return _share_of(self.fn, self.positives)

    @property
    def false_alarms(self) -> str:
        """Share of the tiles without the target that were reported."""
        return _share_of(self.fp, self.negatives)

    @property
    def wrong_alarms(self) -> str:
        """Share of the alarms that were false."""
        return _share_of(self.fp, self.fp + self.tp)


@dataclass(frozen=True)
class Spark:
    """An interval as a bar: positions in per cent of the cell's width; ``None``: no interval."""

    left: float | None
    width: float | None
    at: float


@dataclass(frozen=True)
class CandidateLine:
    """A row of the table of all candidates."""

    keep: str
    channels: str
    params: str
    share: str
    macs: str
    size: str
    time: str
    faster: str
    balanced: str
    interval: str
    spark: Spark | None
    f1: str
    auroc: str
    seen: str
    score: str
    front: bool
    chosen: bool
    full: bool


def headline_tiles(facts: RunFacts, comparison: Comparison) -> list[Tile]:
    """Parameters, file, time and balanced accuracy of the chosen network."""
    chosen, full = facts.chosen, facts.full
    time = Tile("Time per tile, one thread", "not measured", "", "")
    if facts.timed:
        time = Tile(
            "Time per tile, one thread",
            w.milliseconds(chosen.number("latency_p50_ms")),
            w.speed(chosen.number("latency_ratio")),
            f"full network {w.milliseconds(full.number('latency_p50_ms'))}",
        )
    return [
        Tile(
            "Parameters left",
            w.small_percent(facts.share(chosen.row)),
            _less(facts, "params", "fewer"),
            f"{w.short_count(chosen.number('params'))} of {w.short_count(full.number('params'))}",
        ),
        Tile(
            "File size",
            w.size(chosen.number("size_bytes")),
            _less(facts, "size_bytes", "smaller"),
            f"full network {w.size(full.number('size_bytes'))}",
        ),
        time,
        Tile(
            "Balanced accuracy, test",
            w.percent(chosen.number("balanced_accuracy")),
            _quality_change(facts, comparison),
            f"full network {w.percent(full.number('balanced_accuracy'))}",
        ),
    ]


def _quality_change(facts: RunFacts, comparison: Comparison) -> str:
    if facts.full_was_chosen:
        return "the same"
    verdict = comparison.verdict("balanced_accuracy")
    if verdict == "unknown":
        return "difference without interval"
    if verdict == "not distinguishable":
        return verdict
    difference = comparison.differences["balanced_accuracy"].value
    return f"{w.points(difference)[1:]} points {verdict}"


def comparison_lines(facts: RunFacts, comparison: Comparison) -> list[Line]:
    """The six metrics, then what the networks cost."""
    return [*(_quality_line(facts, comparison, m) for m in w.METRIC_NAMES), *_cost_lines(facts)]


def confusion_of(network: Network) -> Confusion:
    """Of the deployed head, on test."""
    counts: Mapping[str, Any] = network.metrics["test_confusion"]
    return Confusion(**{cell: int(counts[cell]) for cell in ("tn", "fp", "fn", "tp")})


def candidate_lines(facts: RunFacts) -> list[CandidateLine]:
    """A line a candidate, the full network first."""
    scale = _spark_scale(facts)
    return [_candidate_line(facts, row, scale) for row in facts.rows]


def _quality_line(facts: RunFacts, comparison: Comparison, metric: str) -> Line:
    found = comparison.differences[metric]
    between = f"{w.points(found.low)} to {w.points(found.high)}"
    return Line(
        w.METRIC_NAMES[metric],
        *_quality_cells(facts.chosen, metric),
        *_quality_cells(facts.full, metric),
        w.points(found.value),
        "no interval" if math.isnan(found.low) else between,
        "" if facts.full_was_chosen else comparison.verdict(metric),
    )


def _quality_cells(network: Network, metric: str) -> tuple[str, str]:
    value, low, high, spread = (
        network.number(f"{metric}{end}") for end in ("", "_low", "_high", "_seed_std")
    )
    if math.isnan(value):
        return w.NONE, "undefined"
    # Of one training nobody knows how much another would differ.
    told = w.percent(value)
    if not math.isnan(spread):
        told = f"{100 * value:.1f} ± {100 * spread:.1f}{w.SPACE}%"
    return told, w.span(low, high)


def _cost_lines(facts: RunFacts) -> list[Line]:
    lines = [
        _cost_line(facts, "parameters", "params", "fewer", w.short_count),
        _cost_line(facts, "multiply-adds per tile (MACs)", "macs", "fewer", w.short_count),
        _cost_line(facts, "file size (ONNX, head included)", "size_bytes", "smaller", w.size),
    ]
    if facts.timed:
        lines += [
            _time_line(facts, "time per tile, one thread", "latency"),
            _time_line(facts, "time per tile, all cores", "latency_all"),
        ]
    return lines


def _cost_line(
    facts: RunFacts, name: str, column: str, word: str, told: Callable[[float], str]
) -> Line:
    mine, theirs = told(facts.chosen.number(column)), told(facts.full.number(column))
    return Line(name, mine, "", theirs, "", _less(facts, column, word), "", "")


def _time_line(facts: RunFacts, name: str, column: str) -> Line:
    ratio = w.speed(facts.chosen.number(f"{column}_ratio"))
    mine, theirs = _time_cells(facts.chosen, column), _time_cells(facts.full, column)
    return Line(name, *mine, *theirs, ratio, "measured in turn", "")


def _time_cells(network: Network, column: str) -> tuple[str, str]:
    median, slow = (network.number(f"{column}_{end}") for end in ("p50_ms", "p95_ms"))
    return w.milliseconds(median), f"p95 {w.milliseconds(slow)}"


def _less(facts: RunFacts, column: str, word: str) -> str:
    if facts.full_was_chosen:
        return "the same"
    return f"{w.times(facts.full.number(column) / facts.chosen.number(column))} {word}"


def _candidate_line(facts: RunFacts, row: Row, scale: tuple[float, float]) -> CandidateLine:
    return CandidateLine(
        keep=w.kept(row),
        channels=w.count(row["channels"]),
        params=w.short_count(row["params"]),
        share=w.small_percent(facts.share(row)),
        macs=w.short_count(row["macs"]),
        size=w.size(row["size_bytes"]),
        time=w.milliseconds(row["latency_p50_ms"]),
        faster=w.times(row["latency_ratio"]),
        balanced=w.percent(row["balanced_accuracy"]),
        interval=w.span(row["balanced_accuracy_low"], row["balanced_accuracy_high"]),
        spark=_spark(row, scale),
        f1=w.percent(row["f1"]),
        auroc=w.percent(row["auroc"]),
        seen=w.percent(row["val_f1"]),
        score=w.NONE if math.isnan(row["score"]) else f"{row['score']:.3f}",
        front=row["pareto"] == 1,
        chosen=row["selected"] == 1,
        full=row["keep_ratio"] == 1,
    )


def _spark_scale(facts: RunFacts) -> tuple[float, float]:
    ends = [
        float(row[f"balanced_accuracy{end}"]) for row in facts.rows for end in ("", "_low", "_high")
    ]
    known = [end for end in ends if not math.isnan(end)] or [0.0]
    margin = 0.06 * (max(known) - min(known)) or 0.01
    return min(known) - margin, max(known) + margin


def _spark(row: Row, scale: tuple[float, float]) -> Spark | None:
    def place(value: float) -> float:
        return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)

    value, low, high = (float(row[f"balanced_accuracy{end}"]) for end in ("", "_low", "_high"))
    if math.isnan(value):
        return None
    if math.isnan(low) or math.isnan(high):
        return Spark(None, None, place(value))
    return Spark(place(low), round(place(high) - place(low), 2), place(value))


def _share_of(part: int, whole: int) -> str:
    return w.percent(part / whole) if whole else w.NONE
