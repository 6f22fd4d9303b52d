"""Where candidates are made: what is to be done, what came of it, and in which order."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from finicky.errors import FinickyError, StorageError
from finicky.progress import Progress, silent, titled
from finicky.pruning import PruningPlan
from finicky.sweep.identity import Candidate
from finicky.sweep.workbench import Workbench

# A write that fails in one of these ways would fail for every candidate.
_STORAGE = {errno.ENOSPC, errno.EIO, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Task:
    """One candidate to make, the folder that its files go to, and what to call it meanwhile.

    ``share``: of the training photographs; below 1 it is a glance, which leaves no files.
    """

    candidate: Candidate
    plan: PruningPlan
    here: Path
    title: str
    share: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return {
            "candidate": self.candidate.to_json(),
            "plan": self.plan.to_json(),
            "here": str(self.here.resolve()),
            "title": self.title,
            "share": self.share,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        plan = PruningPlan.from_json(value["plan"], "the task")
        candidate = Candidate.from_json(value["candidate"])
        return cls(candidate, plan, Path(value["here"]), value["title"], value["share"])


@dataclass(frozen=True)
class Outcome:
    """What came of a candidate: its metrics, or the reason why there are none.

    Attributes:
        candidate: Which.
        metrics: What its ``metrics.json`` is to hold, or what a glance told; ``None`` if it failed.
        reason: One line; empty unless it failed.
        final: Whether another try would fail in the same way.
        seconds: How long it took; 0 where an earlier start had done it.
    """

    candidate: Candidate
    metrics: dict[str, Any] | None
    reason: str = ""
    final: bool = True
    seconds: float = 0.0


class Executor(Protocol):
    """Makes candidates, one after the other or many at a time."""

    def run(self, tasks: Iterator[Task], count: int, *, cost: float = 1.0) -> Iterator[Outcome]:
        """Outcomes as they come; ``count`` tasks, each asked for when there is room for it.

        ``cost``: of a task, next to what the first one of all cost.
        """
        ...


class InProcess:
    """One candidate after the other, here."""

    def __init__(self, bench: Workbench, *, progress: Progress = silent) -> None:
        self._bench, self._progress = bench, progress

    def run(self, tasks: Iterator[Task], count: int, *, cost: float = 1.0) -> Iterator[Outcome]:
        """The `Executor` protocol."""
        del count, cost
        for task in tasks:
            yield attempt(self._bench, task, progress=titled(self._progress, task.title))


class SideBySide:
    """Tells how many of some tasks are done; what each is at, its process alone knows."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress, self._count, self._done, self._stage = progress, count, 0, ""

    def begin(self, task: Task) -> None:
        """A task is handed out."""
        if not self._stage:
            self._stage = "glances" if task.share < 1 else "candidates"
            self._progress(self._stage, 0, self._count)

    def end(self) -> None:
        """One is done."""
        self._done += 1
        self._progress(self._stage, self._done, self._count)


def attempt(bench: Workbench, task: Task, *, progress: Progress = silent) -> Outcome:
    """Make one candidate; whatever goes wrong with it alone becomes the reason.

    Raises:
        StorageError: Its files could not be written, so nor could those of the next.
    """
    start = time.monotonic()
    try:
        if task.share < 1:
            metrics = bench.glance(task.plan, task.share, progress=progress)
        else:
            metrics = bench.make(task.candidate, task.plan, task.here, progress=progress)
    except Exception as error:
        reason, final = reason_of(error, task.here)
        return Outcome(task.candidate, None, reason, final, time.monotonic() - start)
    return Outcome(task.candidate, metrics, seconds=time.monotonic() - start)


def reason_of(error: Exception, place: Path) -> tuple[str, bool]:
    """Why one candidate alone failed, in one line, and whether another try would end the same way.

    Raises:
        StorageError: Files in ``place`` could not be written, so nor could those of the next.
    """
    if isinstance(error, StorageError):
        raise error
    if isinstance(error, FinickyError):
        return _line(str(error)), True
    if isinstance(error, OSError) and error.errno in _STORAGE:
        raise StorageError(f"could not write {place}: {error.strerror}") from error
    return _line(f"{type(error).__name__}: {error}"), False


def _line(text: str) -> str:
    return " ".join(text.split())[:500]
