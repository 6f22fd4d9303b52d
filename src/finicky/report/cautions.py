"""What a reader should know before relying on the numbers, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from finicky.report import wording as w
from finicky.report.comparison import Comparison
from finicky.report.depth import depth_lines
from finicky.report.facts import RunFacts
from finicky.report.search import looked_at
from finicky.sweep.folder import RESULTS
from finicky.sweep.table import FAILED, read_table

FEW_GROUPS = 10
# Beyond this a constant answer already looks good by accuracy.
UNBALANCED = 0.75

# How often intervals held the truth: see finicky.evaluation.intervals.
_FEW_MEANS = {
    "test": f"95{w.SPACE}% intervals are too narrow with so few (in a simulation with 5 "
    f"photographs they held the truth in 85{w.SPACE}% of cases)",
    "validation": "the choice among candidates rests on few photographs, so a neighbour of the "
    "chosen one may be as good",
}


def cautions(facts: RunFacts, comparison: Comparison) -> list[str]:
    """The warnings that apply to this run, the gravest first; empty where none does."""
    return [
        *_weak_reference(facts),
        *depth_lines(facts.root, facts.chosen.row, facts.full.row),
        *_failed(facts),
        *_few_groups(facts),
        *_missing_intervals(facts, comparison),
        *_optimism(facts),
        *_unbalanced(facts),
        *_edge_of_grid(facts),
        *_no_difference(facts, comparison),
        *_one_head(facts),
        *_no_times(facts),
    ]


def _weak_reference(facts: RunFacts) -> Iterator[str]:
    value, low = (facts.full.number(f"balanced_accuracy{end}") for end in ("", "_low"))
    if value <= 0.5 or low <= 0.5:
        yield (
            f"The full network itself cannot be told from guessing on the test photos (balanced "
            f"accuracy {w.percent(value)}; a coin reaches {w.percent(0.5, 0)}). A comparison with "
            "it says little: label more photos, or use another backbone."
        )


def _failed(facts: RunFacts) -> Iterator[str]:
    for row in read_table(facts.root / RESULTS, failed=True):
        yield f"{row['candidate']} could not be made and is in no table here: {row[FAILED]}."


def _few_groups(facts: RunFacts) -> Iterator[str]:
    for split, meaning in _FEW_MEANS.items():
        found = facts.full.predictions
        groups = len(np.unique(found.groups[found.splits == split]))
        if groups < FEW_GROUPS:
            yield f"Only {w.plural(groups, 'photograph')} in {split}: {meaning}."


def _missing_intervals(facts: RunFacts, comparison: Comparison) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for metric in w.METRIC_NAMES:
        found = comparison.differences[metric]
        if math.isnan(found.low):
            reasons.setdefault(found.reason, []).append(w.METRIC_NAMES[metric])
    for reason, names in reasons.items():
        yield f"No interval can be given for the difference in {w.listed(names)}: {reason}."
    narrow = [
        w.METRIC_NAMES[metric]
        for metric in w.METRIC_NAMES
        if facts.chosen.number(f"{metric}_low") == facts.chosen.number(f"{metric}_high")
    ]
    if narrow:
        yield (
            f"The interval of {w.listed(narrow)} has no width, because no exception was seen in "
            "the test photos; that does not prove that none exists."
        )


def _optimism(facts: RunFacts) -> Iterator[str]:
    seen, high = facts.chosen.number("val_f1"), facts.chosen.number("f1_high")
    if seen > high:
        yield (
            f"F1 on validation, which the choice saw, is {w.percent(seen)}: above the whole "
            f"interval on test ({w.span(facts.chosen.number('f1_low'), high)}). The best of many "
            "candidates looks better than it is on the data that chose it, and the validation "
            "photos may be easier; trust the test numbers."
        )


def _unbalanced(facts: RunFacts) -> Iterator[str]:
    found = facts.full.predictions
    share = float(np.mean(found.labels[found.splits == "test"]))
    common = max(share, 1 - share)
    if common > UNBALANCED:
        kind = "with" if share > 0.5 else "without"
        yield (
            f"Classes are unbalanced: {w.percent(common)} of the test tiles are {kind} "
            f"{facts.target}, so always answering that would reach that accuracy. Read balanced "
            "accuracy instead."
        )


def _edge_of_grid(facts: RunFacts) -> Iterator[str]:
    ratios = sorted({row["keep_ratio"] for row in facts.rows} | looked_at(facts.root))
    chosen = facts.chosen.number("keep_ratio")
    if facts.full_was_chosen:
        yield "The full network was chosen: nothing is gained by this run."
    elif chosen == ratios[0]:
        yield (
            f"The chosen network is the smallest that was tried (keep {w.keep_percent(chosen)}). "
            f"A smaller one may do as well: try keep ratios below {chosen:g}."
        )
    elif len(ratios) > 2 and chosen == ratios[-2]:
        yield (
            f"The chosen network is the largest that was tried below the full one (keep "
            f"{w.keep_percent(chosen)}). Try keep ratios between {chosen:g} and 1."
        )


def _no_difference(facts: RunFacts, comparison: Comparison) -> Iterator[str]:
    found = comparison.differences["balanced_accuracy"]
    if facts.full_was_chosen or comparison.verdict("balanced_accuracy") != "not distinguishable":
        return
    if found.low < 0:
        yield (
            "“Not distinguishable” is no proof of equality: with these test photos a loss of up to "
            f"{abs(100 * found.low):.1f} points of balanced accuracy, or a gain of up to "
            f"{max(0.0, 100 * found.high):.1f}, cannot be ruled out."
        )


def _one_head(facts: RunFacts) -> Iterator[str]:
    if len(facts.chosen.predictions.by_seed) < 2:
        yield "Only one head was trained, so nothing tells how much chance in training matters."


def _no_times(facts: RunFacts) -> Iterator[str]:
    if not facts.timed:
        yield "Times were not measured, so the choice does not count them."
