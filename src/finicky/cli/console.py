"""Progress for people on stderr, results on stdout."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class ConsoleProgress:
    """Shows each stage with its time left on a terminal; one line a stage elsewhere."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._since = 0.0
        self._last = (0, 0)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """The `Progress` protocol."""
        if stage != self._stage:
            self._end()
            self._stage, self._since = stage, time.monotonic()
            if self._bar is not None:
                self._task = self._bar.add_task(stage, total=total)
        self._last = (done, total)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)

    def _end(self) -> None:
        if self._stage and self._bar is None:
            seconds = time.monotonic() - self._since
            print(
                f"{self._stage}: {self._last[0]} of {self._last[1]} ({seconds:.1f} s)",
                file=sys.stderr,
                flush=True,
            )
        self._stage = ""


def say(text: str) -> None:
    """A note for people, on stderr."""
    print(text, file=sys.stderr, flush=True)
