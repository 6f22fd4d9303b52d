"""``results.csv``: a row a candidate, the unpruned network as keep ratio 1."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finicky.errors import DataError
from finicky.evaluation import METRICS
from finicky.export import TOLERANCE
from finicky.files import write_text
from finicky.sweep.identity import Candidate
from finicky.sweep.training_kinds import FROZEN

FAILED = "failed"  # why there is nothing but this in a row
TEXT_COLUMNS = ("candidate", "method", "repair", "train", "depth")
COLUMNS = (
    *TEXT_COLUMNS,
    *("keep_ratio", "channels", "params", "macs", "size_bytes"),
    *(f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high", "_seed_std")),
    *(f"val_{metric}" for metric in METRICS),
    *("latency_p50_ms", "latency_p95_ms", "latency_all_p50_ms", "latency_all_p95_ms"),
    *("latency_ratio", "latency_all_ratio"),
    *("score", "pareto", "selected"),
    FAILED,
)
Row = dict[str, Any]


def quality_columns(metrics: Mapping[str, Any]) -> Row:
    """A candidate's ``metrics.json`` as columns, and whether export would take its file."""
    row: Row = {
        key: metrics[key]
        for key in ("candidate", "method", "repair", "keep_ratio", "channels", "params", "macs")
    }
    row["size_bytes"] = metrics["size_bytes"]
    row["train"] = metrics.get("train", FROZEN)
    row["depth"] = metrics.get("tried", {}).get("depth", "")
    parity = metrics.get("parity", {})
    row["exact"] = parity.get("same_class", True) and parity.get("difference", 0) <= TOLERANCE
    for metric in METRICS:
        test = metrics["test"][metric]
        row[metric] = test["value"]
        row[f"{metric}_low"], row[f"{metric}_high"] = test["low"], test["high"]
        row[f"{metric}_seed_std"] = test["seed_std"]
        row[f"val_{metric}"] = metrics["validation"][metric]["value"]
    return row


def failed_row(candidate: Candidate, reason: str) -> Row:
    """The row of a candidate that could not be made."""
    row = {"candidate": candidate.name, "train": candidate.train, "depth": candidate.depth}
    return {**row, "keep_ratio": candidate.keep_ratio, FAILED: reason}


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows; what is undefined or was not measured is an empty cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in COLUMNS])
    write_text(path, stream.getvalue())


def read_table(path: Path, *, failed: bool = False) -> list[Row]:
    """The rows of a ``results.csv``: text columns as str, the others as float, NaN where empty.

    Args:
        path: Of the table.
        failed: Read the rows of candidates that could not be made, instead of the others.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return [
            {k: v if k in (*TEXT_COLUMNS, FAILED) else float(v or "nan") for k, v in row.items()}
            for row in rows
            if bool(row.get(FAILED)) == failed
        ]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}") from error


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        # Whole numbers come back from a table as floats; 14714688 must not become 1.47147e+07.
        return str(int(value)) if value.is_integer() else f"{value:.6g}"
    return str(value)
