"""Numbers and verdicts as people read them.

Between a number and its unit stands a no-break space, so that no line ends between the two; a
number that does not exist is an en dash.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from finicky.evaluation import Interval
from finicky.sweep.training_kinds import FINETUNE, FROZEN, KIND_WORDS, SCRATCH

SPACE = "\u00a0"
NONE = "–"
MINUS = "\u2212"

Verdict = Literal["better", "worse", "not distinguishable", "unknown"]

# In the order in which they are told: the metric of the headline first.
METRIC_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "recall": "recall",
    "precision": "precision",
    "accuracy": "accuracy",
    "auroc": "AUROC",
}


def verdict_of(difference: Interval) -> Verdict:
    """What the interval of "chosen minus full" allows to say; touching 0 shows no difference."""
    if math.isnan(difference.low) or math.isnan(difference.high):
        return "unknown"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "not distinguishable"


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] as ``88.1 %``."""
    return NONE if math.isnan(share) else f"{100 * share:.{digits}f}{SPACE}%"


def small_percent(share: float) -> str:
    """A share with two significant digits below 10 %: ``0.044 %``, ``1.0 %``, ``27 %``."""
    return NONE if math.isnan(share) else f"{figure(100 * share, 2)}{SPACE}%"


def keep_percent(keep_ratio: float) -> str:
    """A keep ratio with the digits that it was given with: ``10 %``, ``2.5 %``."""
    return f"{round(100 * keep_ratio, 4):g}{SPACE}%"


def kept(row: Mapping[str, Any]) -> str:
    """A candidate in a table: its keep ratio, where it ends if early, and how it was trained."""
    told = keep_percent(row["keep_ratio"])
    if row.get("depth"):
        told += f" up to {row['depth']}"
    kind = row.get("train", FROZEN)
    return told if kind == FROZEN else f"{told}, {KIND_WORDS.get(kind, kind)}"


def trained(row: Mapping[str, Any]) -> str:
    """Where it ends and what was done after the cut, to follow "keeps 10 % of the filters"."""
    ending = f" up to {row['depth']}, where it ends," if row.get("depth") else ""
    return ending + {
        FINETUNE: " and was trained on after the cut",
        SCRATCH: " in number, and was trained from scratch in that shape",
    }.get(row.get("train", FROZEN), "")


def points(difference: float) -> str:
    """A difference of shares in percentage points: ``−0.8``; signed even where it rounds to 0."""
    if math.isnan(difference):
        return NONE
    sign = "" if difference == 0 else MINUS if difference < 0 else "+"
    return f"{sign}{abs(100 * difference):.1f}"


def span(low: float, high: float) -> str:
    """An interval of shares, in per cent without the sign: ``84.0 to 91.3``."""
    if math.isnan(low) or math.isnan(high):
        return "no interval"
    return f"{100 * low:.1f} to {100 * high:.1f}"


def count(number: float) -> str:
    """A whole number with thousands apart: ``14 714 688``."""
    return NONE if math.isnan(number) else f"{number:,.0f}".replace(",", SPACE)


def short_count(number: float) -> str:
    """Three significant digits: ``14.7 million``, ``162 thousand``, ``870``."""
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= 0.9995 * size:
            return f"{figure(number / size)}{SPACE}{name}"
    return count(number)


def size(size_bytes: float) -> str:
    """Bytes in MB of 10^6, or kB below 0.1 MB."""
    if math.isnan(size_bytes):
        return NONE
    if size_bytes < 1e5:
        return f"{figure(size_bytes / 1e3)}{SPACE}kB"
    return f"{figure(size_bytes / 1e6)}{SPACE}MB"


def milliseconds(value: float) -> str:
    """A time with three significant digits."""
    return NONE if math.isnan(value) else f"{figure(value)}{SPACE}ms"


def times(ratio: float) -> str:
    """A ratio with two significant digits: ``6.3×``, ``91×``."""
    return NONE if math.isnan(ratio) else f"{figure(ratio, 2)}×"


def speed(ratio: float) -> str:
    """Full time over this time in words: ``6.3× faster``, ``1.2× slower``."""
    if math.isnan(ratio) or ratio <= 0:
        return NONE
    if 0.95 < ratio < 1.05:
        return "equally fast"
    return f"{times(ratio)} faster" if ratio > 1 else f"{times(1 / ratio)} slower"


def figure(value: float, digits: int = 3) -> str:
    """At least ``digits`` significant digits, no exponent: ``0.0123``, ``2.13``, ``13.4``, ``150``.

    Whole numbers are never cut: ``14714``.
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    # Rounded first, because 9.96 with two digits is 10, not 10.0.
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def listed(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def plural(number: float, noun: str) -> str:
    """``1 photo``, ``1 340 photos``."""
    return f"{count(number)}{SPACE}{noun}{'' if number == 1 else 's'}"
