"""The choice: decision function on validation, ``results.csv`` and ``selected/``."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from finicky.errors import DataError, UsageError
from finicky.files import atomic_path, read_json, write_json
from finicky.progress import Progress, silent
from finicky.selection import CandidateMeasure, Choice, Weights, choose, pareto_front
from finicky.sweep.folder import LATENCY, RESULTS, RUN, RunFolder
from finicky.sweep.limits import Limit
from finicky.sweep.maps import Mapped, add_map, make_map
from finicky.sweep.settings import DecisionSettings
from finicky.sweep.table import Row, quality_columns, read_table, write_table

CHOICE = "choice.json"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    Attributes:
        folder: Where all of it lies.
        rows: As in ``results.csv``, the unpruned network first.
        chosen: The chosen row.
        full: The unpruned network's row.
        rejected: Photos that were left out: path in the project, and reason.
        map: The chosen candidate's pixel head, or why it has none.
        failed: Rows of candidates that could not be made, the reason in ``failed``.
    """

    folder: RunFolder
    rows: tuple[Row, ...]
    chosen: Row
    full: Row
    rejected: tuple[tuple[str, str], ...]
    map: Mapped
    failed: tuple[Row, ...] = ()


def decide(
    folder: RunFolder,
    rows: Sequence[Row],
    decision: DecisionSettings,
    *,
    failed: Sequence[Row] = (),
    progress: Progress = silent,
) -> SweepResult:
    """Choose on validation, write ``results.csv`` and ``selected/``."""
    # Measured is measured: a limit that nothing keeps must not cost the table.
    if not (folder.root / RESULTS).is_file():
        write_table(folder.root / RESULTS, [*rows, *failed])
    choice = choose_row(rows, decision)
    front = front_of(rows)
    marked = [
        row
        | {
            "score": choice.scores[i],
            "pareto": int(front[i]),
            "selected": int(i == choice.index),
        }
        for i, row in enumerate(rows)
    ]
    write_table(folder.root / RESULTS, [*marked, *failed])
    chosen = marked[choice.index]
    mapped = make_map(folder, str(chosen["candidate"]), progress=progress)
    _select(folder, str(chosen["candidate"]), decision, choice, mapped)
    full = next(row for row in marked if row["keep_ratio"] == 1)
    rejected = tuple((str(p), str(r)) for p, r in read_json(folder.root / RUN)["rejected"])
    return SweepResult(folder, tuple(marked), chosen, full, rejected, mapped, tuple(failed))


def select_again(
    run: Path, decision: DecisionSettings, *, progress: Progress = silent
) -> SweepResult:
    """Choose anew in a finished run; its table and ``selected/`` are written again."""
    if not (run / RESULTS).is_file():
        raise UsageError(f"{run} holds no {RESULTS}: name the folder of a finished run")
    folder = RunFolder(run)
    with folder.owned():
        limit = Limit.from_json(read_json(run / RUN).get("asked", {}).get("budget"))
        return _select_again(folder, limit.decision(decision), progress)


def _select_again(folder: RunFolder, decision: DecisionSettings, progress: Progress) -> SweepResult:
    run = folder.root
    timed: dict[str, Row] = {}
    if (run / LATENCY).is_file():
        timed = read_json(run / LATENCY)["candidates"]
    rows = []
    # The table is rounded for people; what it was made from is not.
    for name in (str(row["candidate"]) for row in read_table(run / RESULTS)):
        metrics = folder.finished(name)
        if metrics is None:
            raise DataError(
                f"{folder.candidate(name)} is damaged or incomplete: finicky run with the same "
                "--out makes it again"
            )
        rows.append(quality_columns(metrics) | timed.get(name, {}))
    failed = read_table(run / RESULTS, failed=True)
    return decide(folder, rows, decision, failed=failed, progress=progress)


def front_of(rows: Sequence[Row]) -> list[bool]:
    """Which rows no other is both better than, by F1 on validation, and smaller than."""
    front = pareto_front(
        [_number(r["val_f1"]) for r in rows], [_number(r.get("params")) for r in rows]
    )
    return [bool(on) for on in front]


def leading(
    decision: DecisionSettings, metrics: Sequence[dict[str, Any]]
) -> tuple[str, float] | None:
    """Name and score of the candidate that leads before times are known; ``None``: none can."""
    return leader_of([quality_columns(m) for m in metrics], decision)


def leader_of(rows: Sequence[Row], decision: DecisionSettings) -> tuple[str, float] | None:
    """The same of rows."""
    try:
        choice = choose_row(rows, decision)
    except (DataError, StopIteration):
        return None
    return str(rows[choice.index]["candidate"]), round(choice.scores[choice.index], 6)


def choose_row(rows: Sequence[Row], decision: DecisionSettings) -> Choice:
    """Apply the decision function to validation numbers; the unpruned network is the reference.

    Without measured times the time term is left out. Rows whose ``exact`` is false, because their
    file differs from PyTorch by more than export allows, come after all others.
    """
    measures = [_measure(row) for row in rows]
    reference = next(m for m in measures if m.keep_ratio == 1)
    weights: Weights | None = decision.weights
    if math.isnan(reference.latency_ms) and weights is not None:
        weights = Weights(quality=weights.quality, params=weights.params, time=0)
    if decision.decision == "published":
        weights = None
    among = partial(
        choose,
        reference=reference,
        decision=decision.decision,  # type: ignore[arg-type]
        weights=weights,
        constraints=decision.constraints,
    )
    everyone = among(measures)
    # What `finicky export` would refuse is chosen only where nothing else can be.
    exact = [i for i, row in enumerate(rows) if row.get("exact", True)]
    if everyone.index in exact or not exact:
        return everyone
    try:
        better = among([measures[i] for i in exact])
    except DataError:
        return everyone
    return replace(everyone, chosen=better.chosen, index=exact[better.index])


def _measure(row: Row) -> CandidateMeasure:
    ratio = _number(row.get("latency_ratio"))
    return CandidateMeasure(
        name=str(row["candidate"]),
        keep_ratio=float(row["keep_ratio"]),
        f1=_number(row["val_f1"]),
        recall=_number(row["val_recall"]),
        accuracy=_number(row["val_accuracy"]),
        params=int(row["params"]),
        size_bytes=int(row["size_bytes"]),
        latency_ms=_number(row.get("latency_p50_ms")),
        latency_ratio=None if math.isnan(ratio) else ratio,
    )


def _select(
    folder: RunFolder, name: str, decision: DecisionSettings, choice: Choice, mapped: Mapped
) -> None:
    """Copy the chosen candidate to ``selected/``; ``choice.json`` comes last."""
    source, target = folder.candidate(name), folder.selected
    if target.is_dir():
        shutil.rmtree(target)
    for path in sorted(source.iterdir()):
        if not path.name.startswith(".") and path.is_file():
            with atomic_path(target / path.name) as temporary:
                shutil.copyfile(path, temporary)
    add_map(target, mapped)
    value = {
        "candidate": name,
        "decision": decision.decision,
        "weights": asdict(decision.weights),
        "constraints": asdict(decision.constraints),
        "score": choice.scores[choice.index],
        "split": "validation",
        "map": mapped.facts or {"reason": mapped.reason},
    }
    write_json(target / CHOICE, value)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
