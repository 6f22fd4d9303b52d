"""Candidates side by side, each in a process of its own on this machine.

A worker is ``python -m finicky.sweep.worker``: tasks in and outcomes out, one JSON object a line.
So a script needs no ``if __name__ == "__main__"``, nothing is pickled, and a worker knows that its
sweep has ended, however it ended, when no more tasks can come.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import finicky
from finicky.errors import DataError, StorageError
from finicky.progress import Progress, silent
from finicky.sweep.executors import Outcome, SideBySide, Task
from finicky.sweep.workbench import Workbench

# A candidate that took its process down so often is given up.
TRIES = 3


class LocalWorkers:
    """So many processes, each with one thread, that share the tiles through a mapped file.

    They start with the first tasks and stay until the executor is left. One that dies (killed, or
    out of memory) is replaced, and its candidate made again.

    Args:
        bench: Whose candidates are made.
        count: Of processes.
        place: Folder for what they share.
        progress: Told of each task that is done.
    """

    def __init__(
        self, bench: Workbench, count: int, place: Path, *, progress: Progress = silent
    ) -> None:
        self._progress = progress
        self._bench, self._count, self._place = bench, count, place
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sweep-worker")
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes, whatever they are at."""
        for worker in self._workers:
            worker.end()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def run(self, tasks: Iterator[Task], count: int, *, cost: float = 1.0) -> Iterator[Outcome]:
        """The `Executor` protocol."""
        del cost
        told = SideBySide(self._progress, count)
        if not self._workers:
            self._bench.lay_out(self._place)
            self._workers = [_Worker(self._place, number) for number in range(self._count)]
            for worker in self._workers:
                self._idle.put(worker)
        pending: set[Future[Outcome]] = set()
        while True:
            for task in islice(tasks, self._count - len(pending)):
                told.begin(task)
                pending.add(self._threads.submit(self._make, task))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                told.end()
                yield outcome

    def _make(self, task: Task) -> Outcome:
        worker = self._idle.get()
        try:
            for _ in range(TRIES):
                answer = worker.ask(task)
                if answer is not None:
                    return _outcome(task, answer)
            reason = (
                f"its process died {TRIES} times (killed, or out of memory?){worker.last_words()}. "
                "Fewer --workers need less memory"
            )
            return Outcome(task.candidate, None, reason, final=False)
        finally:
            self._idle.put(worker)


def _outcome(task: Task, answer: dict[str, Any]) -> Outcome:
    if "storage" in answer:
        raise StorageError(answer["storage"])
    return Outcome(task.candidate, **answer)


class _Worker:
    """A process that is started when it is needed, and again when it has died."""

    def __init__(self, place: Path, number: int) -> None:
        self._place, self._log = place, place / f"worker-{number}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._starting = threading.Lock()

    def ask(self, task: Task) -> dict[str, Any] | None:
        """What came of a task; ``None`` if the process died over it, or was ended."""
        with self._starting:
            if self._ended:
                return None
            process = self._process
            if process is not None and process.poll() is not None:
                _close(process)
                process = None
            if process is None:
                process = self._process = self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(task.to_json()).encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):
            process.kill()
            process.wait()
            return None
        value: dict[str, Any] = json.loads(answer)
        return value

    def end(self) -> None:
        """Kill the process; no other takes its place."""
        with self._starting:
            self._ended = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """Close the lines to the process that was killed."""
        if self._process is not None:
            _close(self._process)

    def last_words(self) -> str:
        """The last line that it wrote to its standard error."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f": {said[-1][:200]}" if said else ""

    def _start(self) -> subprocess.Popen[bytes]:
        here = str(Path(finicky.__file__).parents[1])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        try:
            with self._log.open("wb") as log:
                return subprocess.Popen(
                    [sys.executable, "-m", "finicky.sweep.worker", str(self._place)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=os.environ | {"PYTHONPATH": path},
                    # Ctrl-C is for the parent, which decides what becomes of the workers.
                    start_new_session=os.name == "posix",
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
        except OSError as error:
            raise DataError(
                f"cannot start a worker process: {error}. Try fewer --workers"
            ) from error


def _close(process: subprocess.Popen[bytes]) -> None:
    for line in (process.stdin, process.stdout):
        assert line is not None
        with suppress(OSError):  # what was not sent has nobody to go to
            line.close()
