"""What a finished run folder holds, read once and checked for what the report cannot do without."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from finicky.errors import DataError, UsageError
from finicky.files import read_json
from finicky.images import printable
from finicky.pruning import PruningPlan
from finicky.sweep.folder import LATENCY, METRICS, PREDICTIONS, RESULTS, RUN, read_arrays
from finicky.sweep.table import COLUMNS, Row, read_table

CHOICE, PLAN = "choice.json", "plan.json"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Predictions:
    """What one candidate answered for every tile.

    Attributes:
        labels: ``(N,)`` 0 or 1, 1 = target.
        groups: ``(N,)`` the photograph that a tile came from.
        splits: ``(N,)`` train, validation or test.
        by_seed: ``(S, N)`` probabilities, one row a head seed.
    """

    labels: np.ndarray
    groups: np.ndarray
    splits: np.ndarray
    by_seed: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a candidate's ``predictions.npz``; a missing or damaged one is a `DataError`."""
        found = read_arrays(path)
        try:
            return cls(found["labels"], found["groups"], found["splits"], found["by_seed"])
        except KeyError as error:
            raise DataError(f"{printable(path)} lacks {error}: run the sweep again") from error


@dataclass(frozen=True)
class Network:
    """One candidate: its row of ``results.csv``, its ``metrics.json`` and its predictions."""

    row: Row
    metrics: Mapping[str, Any]
    predictions: Predictions

    def number(self, column: str) -> float:
        """A column of ``results.csv``; NaN where it is empty."""
        return float(self.row[column])


@dataclass(frozen=True)
class RunFacts:
    """A finished run.

    Attributes:
        root: The run folder.
        rows: All candidates, the largest keep ratio first.
        chosen: The candidate that was chosen.
        full: The unpruned network; ``chosen`` itself where that was chosen.
        run: ``run.json``.
        choice: ``selected/choice.json``.
        kept: Kept channels of the chosen candidate by convolution.
        latency_environment: Where times were measured; ``None`` where they were not.
    """

    root: Path
    rows: tuple[Row, ...]
    chosen: Network
    full: Network
    run: Mapping[str, Any]
    choice: Mapping[str, Any]
    kept: Mapping[str, list[int]]
    latency_environment: Mapping[str, Any] | None

    @property
    def conditions(self) -> Mapping[str, Any]:
        """Settings and hashes that every number depends on."""
        found: Mapping[str, Any] = self.run["conditions"]
        return found

    @property
    def target(self) -> str:
        """The target classes in words: ``crack``, ``crack or pore``."""
        return " or ".join(str(name) for name in self.conditions["targets"])

    @property
    def full_was_chosen(self) -> bool:
        return bool(self.chosen.row["candidate"] == self.full.row["candidate"])

    @property
    def timed(self) -> bool:
        """Whether times were measured."""
        return not math.isnan(self.full.number("latency_p50_ms"))

    @property
    def mapped(self) -> bool:
        """Whether the chosen network has a map finer than a tile, which is not in its times."""
        return "map_px" in (self.choice.get("map") or {})

    def share(self, row: Row) -> float:
        """Parameters of a row over those of the full network."""
        return float(row["params"]) / self.full.number("params")


def read_run(root: Path) -> RunFacts:
    """Read a finished run folder.

    Raises:
        UsageError: There is no such folder, or it holds no finished run.
        DataError: A file that a finished run has is missing, damaged or of another version.
    """
    root = Path(root)
    rows = _rows(root)
    chosen = _marked(root, [row for row in rows if row["selected"] == 1], "chosen candidate")
    full = _marked(root, [row for row in rows if row["keep_ratio"] == 1], "unpruned network")
    run = read_json(root / RUN)
    if not isinstance(run, dict) or "targets" not in run.get("conditions", ()):
        raise DataError(f"{printable(root / RUN)} describes no run of this version")
    folder = root / "candidates" / str(chosen["candidate"])
    latency = read_json(root / LATENCY) if (root / LATENCY).is_file() else {}
    return RunFacts(
        root=root,
        rows=tuple(sorted(rows, key=lambda row: -row["keep_ratio"])),
        chosen=_network(root, chosen),
        full=_network(root, full),
        run=run,
        choice=read_json(root / "selected" / CHOICE),
        kept=PruningPlan.from_json(read_json(folder / PLAN), printable(folder / PLAN)).kept,
        latency_environment=latency.get("environment"),
    )


def _rows(root: Path) -> list[Row]:
    path = root / RESULTS
    if not root.is_dir():
        raise UsageError(f"{printable(root)} is not a folder; give the folder of a finished run")
    if not path.is_file():
        raise UsageError(
            f"{printable(root)} holds no {RESULTS}, so no finished run: give the folder of one, "
            "or start the same finicky run again to finish it"
        )
    rows = read_table(path)
    missing = [column for column in COLUMNS if any(column not in row for row in rows)]
    if missing or not rows:
        what = f"has no column {missing[0]}" if missing else "has no rows"
        raise DataError(
            f"{printable(path)} {what}; expected the table as finicky run writes it. "
            "If a spreadsheet has saved it anew, run finicky select to restore it"
        )
    return rows


def _marked(root: Path, rows: list[Row], what: str) -> Row:
    if len(rows) != 1:
        raise DataError(
            f"{printable(root / RESULTS)} marks {len(rows)} rows as the {what}, expected 1: "
            "run finicky select to write it anew"
        )
    return rows[0]


def _network(root: Path, row: Row) -> Network:
    folder = root / "candidates" / str(row["candidate"])
    metrics = read_json(folder / METRICS)
    if not isinstance(metrics, dict) or not {"test_confusion", "C", "parity"} <= set(metrics):
        raise DataError(f"{printable(folder / METRICS)} is damaged: run the sweep again")
    return Network(row, metrics, Predictions.read(folder / PREDICTIONS))
