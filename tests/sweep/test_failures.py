"""Candidates that fail: rows with a reason, and never the end of the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import finicky.sweep.evaluator
import finicky.sweep.workbench
from finicky.data.surfaces import write_surfaces
from finicky.errors import DataError, FinickyError, StorageError
from finicky.project import Project
from finicky.report import write_report
from finicky.sweep import (
    DecisionSettings,
    Execution,
    SweepSettings,
    read_table,
    run_sweep,
    select_again,
)
from finicky.sweep.evaluator import Evaluator
from finicky.sweep.events import Event
from finicky.sweep.executors import Outcome, Task, attempt
from finicky.sweep.folder import CANDIDATE_FILES, RunFolder
from finicky.sweep.identity import Candidate

SETTINGS = SweepSettings(
    backbone="alexnet",
    train=("frozen",),
    weights="random",
    keep_ratios=(0.1, 0.5),
    repair="none",
    tile=64,
    head_seeds=1,
    latency_seconds=0,
    maps=False,
)


class _Bench:
    """Makes candidates by doing what it is told."""

    def __init__(self, act: Any) -> None:
        self._act = act

    def make(self, candidate: Candidate, *_: object, **__: object) -> dict[str, Any]:
        return self._act(candidate)  # type: ignore[no-any-return]


class _Executor:
    """Writes tiny files, and fails where it is told to."""

    def __init__(self, failing: dict[float, Exception]) -> None:
        self.failing, self.made = failing, []  # type: ignore[var-annotated]

    def run(self, tasks: Iterator[Task], count: int, *, cost: float = 1.0) -> Iterator[Outcome]:
        del count, cost

        def act(candidate: Candidate) -> dict[str, Any]:
            self.made.append(candidate.name)
            if candidate.keep_ratio in self.failing:
                raise self.failing[candidate.keep_ratio]
            value = {"value": candidate.keep_ratio}
            validation = {"balanced_accuracy": value, "f1": value}
            return {"candidate": candidate.name, "validation": validation, "params": 7}

        for task in tasks:
            task.here.mkdir(parents=True)
            for file in CANDIDATE_FILES:
                (task.here / file).write_bytes(task.title.encode())
            yield attempt(_Bench(act), task)  # type: ignore[arg-type]


def _evaluator(root: Path, executor: _Executor, heard: list[Event], **more: Any) -> Evaluator:
    return Evaluator(
        RunFolder(root),
        executor,
        lambda _: None,  # type: ignore[arg-type, return-value]
        leader=lambda metrics: (metrics[-1]["candidate"], 1.5),
        listen=heard.append,
        **more,
    )


RATIOS = [Candidate(r) for r in (1, 0.5, 0.2, 0.1)]


def test_time_left_counts_what_a_search_will_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    monkeypatch.setattr(finicky.sweep.evaluator._Clock, "left", lambda _, work: work)
    evaluator = _evaluator(tmp_path, _Executor({}), heard, expected=8, sure=False)
    for each in RATIOS:
        evaluator.evaluate([each])
    assert [(e.facts["done"], e.facts["total"]) for e in heard] == [(n, 8) for n in range(1, 5)]
    assert not any(e.facts["sure"] for e in heard)
    left = [e.facts["seconds_left"] for e in heard]
    assert left == sorted(left, reverse=True) and left[-1] > 0


def test_trainings_that_follow_are_counted_before_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    monkeypatch.setattr(finicky.sweep.evaluator._Clock, "left", lambda _, work: work)
    evaluator = _evaluator(tmp_path, _Executor({}), heard, expected=6, trained=2)
    evaluator.evaluate(RATIOS)
    assert heard[3].facts["seconds_left"] > 4  # a training is the work of two unpruned networks
    evaluator.evaluate([Candidate(0.1, "finetune"), Candidate(0.1, "scratch")])
    assert [(e.facts["done"], e.facts["total"]) for e in heard] == [(n, 6) for n in range(1, 7)]
    assert all(e.facts["sure"] for e in heard)
    left = [e.facts["seconds_left"] for e in heard]
    assert left == sorted(left, reverse=True) and left[-1] == 0


def test_each_candidate_is_made_once_and_told_of(tmp_path: Path) -> None:
    executor, heard = _Executor({0.2: FinickyError("parity\n refused")}), list[Event]()
    evaluator = _evaluator(tmp_path, executor, heard)
    first = evaluator.evaluate(RATIOS[:2])
    both = evaluator.evaluate(RATIOS)
    assert executor.made == ["keep-1", "keep-0.5", "keep-0.2", "keep-0.1"]
    assert both[:2] == first
    assert [o.candidate.keep_ratio for o in both] == [1, 0.5, 0.2, 0.1]
    assert [(e.facts["done"], e.facts["total"]) for e in heard] == [(1, 2), (2, 2), (3, 4), (4, 4)]
    assert [e.facts["status"] for e in heard] == ["finished", "finished", "failed", "finished"]
    assert heard[2].facts["reason"] == "parity refused"
    assert heard[3].facts["best"] == "keep-0.1"
    assert heard[3].facts["seconds_left"] == 0 and heard[3].facts["sure"]
    assert all(json.dumps(e.to_json(), allow_nan=False) for e in heard)


def test_next_start_redoes_only_what_may_end_otherwise(tmp_path: Path) -> None:
    failing = {0.2: FinickyError("parity refused"), 0.1: MemoryError("8 GB")}
    first = _evaluator(tmp_path, _Executor(failing), []).evaluate(RATIOS)
    assert [o.reason for o in first] == ["", "", "parity refused", "MemoryError: 8 GB"]
    executor, heard = _Executor({}), list[Event]()
    second = _evaluator(tmp_path, executor, heard).evaluate(RATIOS)
    assert executor.made == ["keep-0.1"]
    assert [o.reason for o in second] == ["", "", "parity refused", ""]
    assert [e.facts["status"] for e in heard] == ["kept", "kept", "failed", "finished"]


def test_damaged_candidate_is_named_and_made_again(tmp_path: Path) -> None:
    _evaluator(tmp_path, _Executor({}), []).evaluate(RATIOS)
    (tmp_path / "candidates" / "keep-0.5" / "plan.json").write_bytes(b"other")
    executor, heard = _Executor({}), list[Event]()
    _evaluator(tmp_path, executor, heard).evaluate(RATIOS)
    assert executor.made == ["keep-0.5"]
    assert [e.facts["file"] for e in heard if e.kind == "damaged"] == [
        "candidates/keep-0.5/plan.json"
    ]


def test_without_the_unpruned_network_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    evaluator = _evaluator(tmp_path, _Executor({1: DataError("label more photos")}), [])
    with pytest.raises(DataError, match="unpruned network cannot be used: label more photos"):
        evaluator.evaluate(RATIOS)


@pytest.mark.parametrize("error", [StorageError("disk full"), OSError(28, "No space left")])
def test_full_disk_ends_the_run(tmp_path: Path, error: Exception) -> None:
    executor = _Executor({0.5: error})
    with pytest.raises(StorageError):
        _evaluator(tmp_path, executor, []).evaluate(RATIOS)
    assert executor.made == ["keep-1", "keep-0.5"]


def test_failed_candidate_is_a_row_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_surfaces(tmp_path / "p", 14, seed=3, width=256, height=192)
    project, out = Project.open(tmp_path / "p"), tmp_path / "run"
    real = finicky.sweep.workbench.evaluate_candidate

    def refuse(candidate: Candidate, *rest: Any, **more: Any) -> dict[str, Any]:
        if candidate.keep_ratio == 0.5:
            raise FinickyError("the exported network differs by 3e-2, allowed are 1e-5")
        return real(candidate, *rest, **more)

    monkeypatch.setattr(finicky.sweep.workbench, "evaluate_candidate", refuse)
    here = Execution(workers=1)  # other processes know nothing of this
    result = run_sweep(project, out, SETTINGS, execution=here)
    assert [r["candidate"] for r in result.rows] == ["keep-1", "keep-0.1"]
    (failed,) = read_table(out / "results.csv", failed=True)
    assert failed["candidate"] == "keep-0.5"
    assert "differs by 3e-2" in failed["failed"]
    assert not (out / "candidates" / "keep-0.5" / "metrics.json").exists()
    told = (write_report(out)).read_text(encoding="utf-8")
    assert "keep-0.5 could not be made" in told
    table = (out / "results.csv").read_bytes()
    again = select_again(out, DecisionSettings())
    assert (out / "results.csv").read_bytes() == table
    assert [r["candidate"] for r in again.failed] == ["keep-0.5"]
