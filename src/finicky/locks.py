"""One process at a time in a folder: the second is refused and told of the first.

The operating system holds the lock and drops it with the process, however that ends; so what a
killed process left is taken over at once, and nothing is ever stolen from a living one. On file
systems that know no locks the owner's record decides: host, process number, the moment the process
started and the machine's start, so that a process number used anew is not taken for the owner.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from finicky.errors import DataError
from finicky.files import read_json, unwritable, write_json

LOCK, OWNER = ".lock", ".owner.json"
# For the moment in which the one before lets go.
PATIENCE_S = 0.3


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; it is made if it is not there.

    Raises:
        DataError: Another process holds it: the message says which. Or it cannot be written.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    lock = FileLock(folder / LOCK, timeout=PATIENCE_S)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(_taken(folder)) from None
    except PermissionError as error:
        raise unwritable(folder / LOCK, error) from error
    except (OSError, NotImplementedError):
        _refuse_living(folder)
    try:
        write_json(folder / OWNER, _me())
        yield
    finally:
        try:
            with suppress(OSError):
                (folder / OWNER).unlink()
        finally:
            lock.release()


def refuse_taken(folder: Path) -> None:
    """Say at once, before anything heavy is loaded, that another process holds a folder."""
    from filelock import FileLock, Timeout

    if not (folder / LOCK).is_file():
        return
    with suppress(OSError, NotImplementedError):
        try:
            FileLock(folder / LOCK, timeout=PATIENCE_S).acquire().lock.release()
        except Timeout:
            raise DataError(_taken(folder)) from None


def _refuse_living(folder: Path) -> None:
    """Without locks: the record of a living owner counts, that of a dead one is replaced."""
    if (folder / OWNER).is_file() and _lives(_record(folder)):
        raise DataError(_taken(folder))


def _me() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": process_mark(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _record(folder: Path) -> dict[str, Any]:
    with suppress(DataError):
        value = read_json(folder / OWNER)
        if isinstance(value, dict):
            return value
    return {}


def _lives(record: dict[str, Any]) -> bool:
    """Whether a recorded owner may still be at work; one on another host may always be."""
    if not record:
        return False
    if record.get("host") != platform.node():
        return True
    try:
        pid = int(record["pid"])
        os.kill(pid, 0) if os.name == "posix" else None
    except (KeyError, TypeError, ValueError, ProcessLookupError):
        return False
    except OSError:
        pass
    return bool(record.get("started") == process_mark(pid))


def process_mark(pid: int) -> str | None:
    """What tells a process from a later one of the same number; ``None`` if the system does not."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may hold spaces; the start is the 22nd field.
    return f"{boot[:8]}-{fields.rpartition(')')[2].split()[19]}"


def _taken(folder: Path) -> str:
    owner = _record(folder)
    who = "a process that has just started"
    if owner:
        who = (
            f"process {owner.get('pid', '?')} on {owner.get('host', '?')}, since "
            f"{owner.get('since', '?')}"
        )
    return (
        f"{folder} is in use by {who}: wait until it ends, stop it, or choose another --out folder"
    )
