"""``python -m finicky.sweep.worker PLACE``: makes candidates for `LocalWorkers`."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finicky.errors import StorageError
from finicky.sweep.executors import Task, attempt
from finicky.sweep.workbench import Workbench


def main(place: Path) -> None:
    """Answer every task on standard input with one line on standard output."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    bench = Workbench.open(place)
    while True:
        task = Task.from_json(json.loads(tasks.get()))
        answers.write(json.dumps(_answer(bench, task)) + "\n")
        answers.flush()


def _answer(bench: Workbench, task: Task) -> dict[str, Any]:
    try:
        value = asdict(attempt(bench, task))
    except StorageError as error:
        return {"storage": str(error)}
    del value["candidate"]
    return value


def _listen(tasks: queue.SimpleQueue[str]) -> None:
    """Pass the tasks on, and end the process with the sweep that it works for."""
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
