"""One labeler a project: the second one is refused and told of the first.

The operating system holds the lock and drops it with the process, however that ends; so a lock
that a killed labeler left needs no judging by process number and age, and is never in the way.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from finicky.errors import DataError
from finicky.files import read_json, write_json
from finicky.labeler.workplace import Workplace

_MEMORY = "labeler.json"


def last_port(workplace: Workplace) -> int | None:
    """The port that the project's labeler had last time."""
    with suppress(TypeError, ValueError):
        return int(_memory(workplace).get("port", 0)) or None
    return None


def remember(workplace: Workplace, *, port: int) -> None:
    """Write down who serves this project, and where, for the next one and for one refused."""
    record = {
        "port": port,
        "pid": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    with suppress(DataError):  # a folder that cannot be written is reported with the first stroke
        write_json(workplace.state / _MEMORY, record)


@contextmanager
def sole_owner(workplace: Workplace) -> Iterator[None]:
    """Hold the project for this process.

    A folder that cannot be written, or whose file system knows no locks, is not held: what two
    labelers do to one mask is then found by its hash with every stroke.

    Raises:
        DataError: Another labeler holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(workplace.state / "labeler.lock", timeout=0.3)
    try:
        workplace.state.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise DataError(_taken(workplace)) from None
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()


def _taken(workplace: Workplace) -> str:
    first = _memory(workplace)
    who = (
        f"process {first.get('pid', '?')} on {first.get('host', '?')}, "
        f"since {first.get('since', '?')}, port {first.get('port', '?')}"
    )
    return (
        f"{workplace.root} is open in another labeler ({who}). Go on in its window, or stop it "
        "with Ctrl+C first."
    )


def _memory(workplace: Workplace) -> dict[str, Any]:
    with suppress(DataError):
        value = read_json(workplace.state / _MEMORY)
        if isinstance(value, dict):
            return value
    return {}
