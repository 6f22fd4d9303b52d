"""Where a sweep's candidates are made, chosen by a person or by what it is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from finicky.errors import UsageError, nearest_names
from finicky.progress import Progress, silent
from finicky.sweep.executors import Executor, InProcess, Outcome, Task
from finicky.sweep.training_kinds import FROZEN
from finicky.sweep.workbench import Workbench
from finicky.sweep.workers import LocalWorkers
from finicky.timing import available_cores

# Processes take seconds to start; less work than this is done sooner without them.
WORTH_STARTING_S = 20.0
EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class Execution:
    """Where candidates are made. It changes how long a sweep takes, and no number in it.

    Attributes:
        workers: Processes with one thread each; 1: none but this one; 0: one a core if the work is
            worth it, or one for each CPU of a cluster.
        executor: ``local`` or ``ray``.
        ray_address: Of a Ray cluster that exists; ``None``: one on this machine that ends with the
            sweep.
    """

    workers: int = 0
    executor: str = "local"
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.workers <= 1024:
            raise UsageError(f"workers must be 0 (one a core) to 1024, got {self.workers}")
        if self.executor not in EXECUTORS:
            raise UsageError(
                f"no executor named {self.executor!r}. {nearest_names(self.executor, EXECUTORS)}"
            )
        if self.ray_address is not None and self.executor != "ray":
            raise UsageError("a Ray address needs --executor ray")

    def refuse_missing(self) -> None:
        """Refuse, before any work, an executor that is not installed."""
        if self.executor == "ray":
            from finicky.sweep.cluster import import_ray

            import_ray()


@contextmanager
def start(
    execution: Execution, bench: Workbench, place: Path, *, progress: Progress = silent
) -> Iterator[Executor]:
    """The executor that was asked for; its processes end with the context.

    Args:
        execution: What was asked for.
        bench: Whose candidates are made.
        place: Folder for what processes share, on this machine.
        progress: Told of every batch of a candidate that is made in this process.
    """
    here = InProcess(bench, progress=progress)
    with ExitStack() as stack:
        if execution.executor == "ray":
            from finicky.sweep.cluster import RayWorkers

            address = execution.ray_address
            yield stack.enter_context(
                RayWorkers(bench, execution.workers, place, address, progress=progress)
            )
            return
        count = execution.workers or available_cores()
        if count == 1:
            yield here
        else:
            side_by_side = stack.enter_context(LocalWorkers(bench, count, place, progress=progress))
            yield side_by_side if execution.workers else _AsIsWorth(here, side_by_side)


class _AsIsWorth:
    """The first candidate here, the rest by workers if it took long enough.

    Trainings take minutes: several of them are not tried out first.
    """

    def __init__(self, here: InProcess, side_by_side: LocalWorkers) -> None:
        self._here, self._side_by_side = here, side_by_side
        self._seconds: float | None = None
        self._least = WORTH_STARTING_S

    def run(self, tasks: Iterator[Task], count: int, *, cost: float = 1.0) -> Iterator[Outcome]:
        """The `Executor` protocol."""
        worth = False
        if self._seconds is None:
            first = next(tasks, None)
            if first is None:
                return
            if count > 1 and first.candidate.train != FROZEN:
                tasks, worth = chain((first,), tasks), True
            else:
                outcome = next(self._here.run(iter([first]), 1))
                self._seconds, count = outcome.seconds, count - 1
                yield outcome
        if self._seconds is not None:
            worth = count > 1 and self._seconds * cost * count >= self._least
        if worth:
            self._least = 0.0  # once they are there, starting them costs nothing
        executor: Executor = self._side_by_side if worth else self._here
        yield from executor.run(tasks, count)
