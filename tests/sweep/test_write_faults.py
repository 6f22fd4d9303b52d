"""A small run whose disk fails, or whose process is killed, at every single write.

The candidates are tiny stand-ins; locks, journal, seals, files and table are the real ones.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finicky.errors import DataError, FinickyError, StorageError
from finicky.files import write_bytes, write_json
from finicky.sweep.evaluator import Evaluator
from finicky.sweep.executors import Outcome, Task, attempt
from finicky.sweep.folder import CANDIDATE_FILES, RESULTS, RUN, RunFolder, remove
from finicky.sweep.identity import Candidate
from finicky.sweep.table import write_table

CONDITIONS = {"seed": 0}
RATIOS = [Candidate(r) for r in (1, 0.5, 0.1)]


class Killed(BaseException):
    """What a killed process does next: nothing."""


class _Disk:
    """Counts what changes the disk; from the operation ``at`` on (or only there) it fails."""

    NAMES = (
        *((os, name) for name in ("fsync", "replace", "write", "unlink", "rmdir", "mkdir")),
        *((os, "ftruncate"), (tempfile, "mkstemp"), (io, "open")),
    )

    def __init__(self, patch: pytest.MonkeyPatch, act: Callable[[], BaseException | None]) -> None:
        self.at, self.lasting, self.done, self._act = -1, False, 0, act
        for module, name in self.NAMES:
            real = getattr(module, name)
            # What the system would lose with its power is not tried here, and waiting takes long.
            patch.setattr(module, name, self._watched(real if name != "fsync" else _no_wait))

    def _watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            reads = real is io_open and not set("wax+") & set(str((*args, "r")[1]))
            if not reads:
                number, self.done = self.done, self.done + 1
                if self.at >= 0 and (number >= self.at if self.lasting else number == self.at):
                    error = self._act()
                    if error is not None:
                        raise error
            return real(*args, **more)

        return call


io_open = io.open


def _no_wait(handle: int) -> None:
    del handle


class _Maker:
    """Makes candidates of tiny files; the one at 0.5 is refused for good."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def make(self, candidate: Candidate, _: object, here: Path, **__: object) -> dict[str, Any]:
        if candidate.keep_ratio == 0.5:
            raise FinickyError("parity refused")
        for file in CANDIDATE_FILES:
            write_bytes(here / file, f"{candidate.name} {file}".encode() * 50)
        self.made.append(candidate.name)
        value = {"value": 0.9}
        return {
            "candidate": candidate.name,
            "validation": {"balanced_accuracy": value, "f1": value},
            "params": 7,
        }

    def run(self, tasks: Iterator[Task], count: int, *, cost: float = 1.0) -> Iterator[Outcome]:
        del count, cost
        for task in tasks:
            yield attempt(self, task)  # type: ignore[arg-type]


def _run(root: Path, maker: _Maker) -> None:
    """The steps of a sweep, in their order, on the real folder."""
    folder = RunFolder(root)
    with folder.owned():
        folder.open(CONDITIONS)
        write_json(root / RUN, {"conditions": CONDITIONS})
        folder.journal.append("started")
        if folder.changed("tiles") != []:
            remove(folder.tiles)
            write_bytes(folder.tiles / "a.png", b"tile" * 100)
            write_bytes(folder.tiles / "tiles.csv", b"table")
            folder.record("tiles", folder.tiles.rglob("*"))
        with folder.scratch() as place:
            write_bytes(place / "tiles.npy", b"shared")
            evaluator = Evaluator(folder, maker, lambda _: None)  # type: ignore[arg-type, return-value]
            found = evaluator.evaluate(RATIOS)
        rows = [{"candidate": o.candidate.name, "failed": o.reason} for o in found]
        write_table(root / RESULTS, rows)


def _visible(root: Path) -> dict[str, bytes]:
    """All that a reader may find, but for the journal, whose records carry times."""
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and not p.name.startswith(".") and ".scratch" not in p.parts
        if p.name != "journal.jsonl"
    }


def _full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def _broken() -> OSError:
    return OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("act", "lasting"),
    [(_full, True), (_broken, False), (Killed, True)],
    ids=["full from then on", "one input/output error", "killed"],
)
def test_fault_at_every_write_loses_nothing_that_was_finished(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[], BaseException],
    lasting: bool,
) -> None:
    with monkeypatch.context() as patch:
        disk = _Disk(patch, act)
        _run(tmp_path / "whole", _Maker())
        total = disk.done
    expected = _visible(tmp_path / "whole")
    assert len(expected) == 17
    assert total > 100
    noticed = 0
    for at in range(0, total, 1 if act is Killed else 3):
        root = tmp_path / f"{at}"
        with monkeypatch.context() as patch:
            disk = _Disk(patch, act)
            disk.at, disk.lasting = at, lasting
            try:
                _run(root, _Maker())
            except (DataError, Killed) as error:
                noticed += 1
                if isinstance(error, DataError):
                    assert isinstance(error, StorageError), error
                    assert str(error).count("\n") == 0
                    assert "No space left" in str(error) or "Input/output error" in str(error)
        left = _visible(root) if root.exists() else {}
        half = [name for name, content in left.items() if content != expected.get(name)]
        assert not half, (at, half)
        finished = {Path(n).parent.name for n in left if n.endswith("metrics.json")}
        again = _Maker()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _no_wait)
            _run(root, again)
        assert _visible(root) == expected, at
        assert not finished & set(again.made), at
        assert not [p for p in root.rglob("*") if p.name.endswith(".tmp")], at
        shutil.rmtree(root)
    # Failing to tidy up, or to note down that it failed, is no failure; everything else is.
    assert noticed > 0.7 * total / (1 if act is Killed else 3)
