"""Workers, kills and Ctrl-C change how long a sweep takes, and not a byte of what it finds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finicky.data.surfaces import write_surfaces
from finicky.errors import StorageError, UsageError
from finicky.files import sha256_file
from finicky.project import Project
from finicky.sweep import Execution, SweepSettings, run_sweep
from finicky.sweep.evaluator import Evaluator
from finicky.sweep.events import Event
from finicky.sweep.execution import _AsIsWorth
from finicky.sweep.executors import Outcome, Task
from finicky.sweep.folder import RunFolder
from finicky.sweep.identity import Candidate
from finicky.sweep.workers import LocalWorkers, _Worker

SETTINGS = SweepSettings(
    backbone="alexnet",
    train=("frozen",),
    weights="random",
    keep_ratios=(0.1, 0.5),
    tile=64,
    head_seeds=2,
    latency_seconds=0,
    maps=False,
)
OPTIONS = "--backbone alexnet --weights random --keep 0.1,0.5 --tile 64 --seeds 2"
OPTIONS += " --latency-seconds 0 --no-maps --train frozen"
linux = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("workers") / "p"
    write_surfaces(root, 14, seed=3, width=256, height=192)
    return Project.open(root)


@pytest.fixture(scope="module")
def alone(project: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of what one process finds without interruption."""
    out = tmp_path_factory.mktemp("alone") / "run"
    run_sweep(project, out, SETTINGS, execution=Execution(workers=1))
    return _found(out)


def _found(out: Path) -> dict[str, str]:
    """Hashes of all results: table, plans, weights, heads, answers, models, metrics."""
    files = [out / "results.csv", *out.glob("candidates/*/*"), *out.glob("selected/*")]
    return {p.relative_to(out).as_posix(): sha256_file(p) for p in files if p.is_file()}


def _children() -> list[int]:
    """Process numbers of our own workers."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            words = stat.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"finicky.sweep.worker" in words:
            found.append(int(stat.parent.name))
    return found


@linux
def test_two_workers_one_of_them_killed_find_the_same_bytes(
    project: Project, alone: dict[str, str], tmp_path: Path
) -> None:
    heard: list[Event] = []

    def listen(event: Event) -> None:
        if event.kind == "candidate" and all(e.kind != "candidate" for e in heard):
            assert len(_children()) == 2
            os.kill(max(_children()), signal.SIGKILL)
        heard.append(event)

    run_sweep(project, tmp_path / "run", SETTINGS, execution=Execution(workers=2), listen=listen)
    assert _found(tmp_path / "run") == alone
    assert {e.facts["status"] for e in heard if e.kind == "candidate"} == {"finished"}
    assert _children() == []
    assert not (tmp_path / "run" / ".scratch").exists()


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_drops_what_it_is_at_and_the_same_command_goes_on(
    project: Project, alone: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", "from finicky.cli import main; main()", "run"]
    command += [str(project.root), "--out", str(out), "--workers", "2", *OPTIONS.split()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("candidates/*/metrics.json")):
        assert process.poll() is None and time.monotonic() < deadline, "nothing was finished"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    last = told.rstrip().split("\n")[-1]
    assert last.startswith("error: interrupted")
    assert "of 3 candidates are finished" in last
    assert f"--out {out}" in last
    kept = list(out.glob("candidates/*"))
    assert 1 <= len(kept) < 3
    assert all((here / "metrics.json").is_file() for here in kept)
    assert not list(out.rglob("*.tmp"))
    assert not (out / ".scratch").exists()
    before = {here: (here / "metrics.json").stat().st_mtime_ns for here in kept}
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    _check_events([json.loads(line) for line in done.stdout.splitlines()], len(kept))
    assert {here: (here / "metrics.json").stat().st_mtime_ns for here in kept} == before
    assert _found(out) == alone


def _check_events(events: list[dict[str, Any]], kept: int) -> None:
    """What ``--json`` printed, one object a line, is what the manual says."""
    kinds = [event["event"] for event in events]
    assert set(kinds) == {"stage", "started", "candidate", "result"}
    assert kinds[-1] == "result"
    started = events[kinds.index("started")]
    assert started.items() >= {"candidates": 3, "finished": kept}.items()
    candidates = [event for event in events if event["event"] == "candidate"]
    assert [e["status"] for e in candidates] == ["kept"] * kept + ["finished"] * (3 - kept)
    assert [e["done"] for e in candidates] == [1, 2, 3]
    assert candidates[-1]["seconds_left"] == 0
    assert events[-1]["chosen"]["candidate"] == candidates[-1]["best"]
    manual = (Path(__file__).parents[2] / "docs" / "howto" / "long-runs.md").read_text("utf-8")
    for event in events:
        for name in (event["event"], *event):
            assert f"`{name}`" in manual, name


class _Idle:
    """A workbench with nothing to share."""

    def lay_out(self, place: Path) -> None:
        place.mkdir()


class _Plan:
    def to_json(self) -> dict[str, Any]:
        return {}


def _answering(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Workers that are small scripts."""

    def start(self: _Worker) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    monkeypatch.setattr(_Worker, "_start", start)


def _tasks(tmp_path: Path, count: int) -> list[Task]:
    ratios = [(n + 1) / 10 for n in range(count)]
    return [Task(Candidate(r), _Plan(), tmp_path, "") for r in ratios]  # type: ignore[arg-type]


def test_candidate_that_always_kills_its_process_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answering(
        monkeypatch,
        "import sys, os\n"
        "for line in sys.stdin:\n"
        "    if '0.2' in line: print('out of memory', file=sys.stderr, flush=True); os._exit(9)\n"
        '    print(\'{"metrics": {"a": 0.1}, "seconds": 1.0}\', flush=True)',
    )
    tasks = _tasks(tmp_path, 4)
    with LocalWorkers(_Idle(), 2, tmp_path / "place") as workers:  # type: ignore[arg-type]
        found = {o.candidate.keep_ratio: o for o in workers.run(iter(tasks), 4)}
    assert [found[r].metrics for r in (0.1, 0.3, 0.4)] == [{"a": 0.1}] * 3
    assert "died 3 times" in found[0.2].reason
    assert "out of memory" in found[0.2].reason
    assert not found[0.2].final


def test_full_disk_in_a_worker_ends_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answering(
        monkeypatch,
        'import sys\nfor _ in sys.stdin: print(\'{"storage": "could not write x"}\', flush=True)',
    )
    workers = LocalWorkers(_Idle(), 2, tmp_path / "place")  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="could not write x"), workers:
        list(workers.run(iter(_tasks(tmp_path, 4)), 4))


def test_number_of_workers_is_checked() -> None:
    with pytest.raises(UsageError, match=r"0 \(one a core\) to 1024, got -1"):
        Execution(workers=-1)


def test_what_is_compared_is_all_that_a_run_finds(alone: dict[str, str]) -> None:
    assert {"results.csv", "candidates/keep-0.1/model.onnx", "selected/plan.json"} <= set(alone)
    assert len(alone) == 1 + 3 * 6 + 7


class _Told:
    """Notes what it is to make, and says that each took a second."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.costs: list[float] = []

    def run(self, tasks: Iterator[Task], count: int, *, cost: float = 1.0) -> Iterator[Outcome]:
        del count
        self.costs.append(cost)
        for task in tasks:
            self.made.append(task.candidate.name)
            yield Outcome(task.candidate, {}, seconds=1.5)


def _told(*candidates: Candidate, cost: float) -> tuple[list[str], list[str]]:
    """What is made here and what side by side, after a frozen start or not."""
    here, side_by_side = _Told(), _Told()
    worth: Any = _AsIsWorth(here, side_by_side)  # type: ignore[arg-type]
    tasks: list[Any] = [SimpleNamespace(candidate=each) for each in candidates]
    if candidates[0].unpruned:
        list(worth.run(iter(tasks[:1]), 1))
        del tasks[0]
    assert len(list(worth.run(iter(tasks), len(tasks), cost=cost))) == len(tasks)
    return here.made, side_by_side.made


def test_trainings_are_worth_workers_where_frozen_candidates_are_not() -> None:
    pair = [Candidate(0.1, "finetune"), Candidate(0.1, "scratch")]
    names = [one.name for one in pair]
    assert _told(Candidate(1), *pair, cost=10) == (["keep-1"], names)
    assert _told(*pair, cost=10) == ([], names)  # the frozen ones are of an earlier start
    assert _told(pair[0], cost=10) == (names[:1], [])
    frozen = [Candidate(0.2), Candidate(0.1)]
    assert _told(*frozen, cost=1) == (["keep-0.2", "keep-0.1"], [])


def test_evaluator_says_that_trainings_cost_more(tmp_path: Path) -> None:
    told = _Told()
    evaluator = Evaluator(RunFolder(tmp_path), told, lambda _: None)  # type: ignore[arg-type, return-value]
    evaluator._settle = lambda _: None  # type: ignore[method-assign]
    list(evaluator.each([Candidate(1), Candidate(0.1)]))
    list(evaluator.each([Candidate(0.1, "finetune"), Candidate(0.1, "scratch")]))
    assert told.costs == [1, 10]
