"""Candidates on a Ray cluster, one that exists or one that is started here and ends with the sweep.

The backbone and the tiles are put into Ray's object store once; every node maps them from there. A
candidate is a task of one CPU that returns its files, so the nodes need no common disk.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from finicky.errors import DataError, MissingDependencyError, StorageError
from finicky.files import sha256_bytes, sha256_file, write_bytes
from finicky.progress import Progress, silent
from finicky.sweep.executors import Outcome, SideBySide, Task, attempt
from finicky.sweep.versions import code_sha256, packages
from finicky.sweep.workbench import TILES, Workbench
from finicky.sweep.workers import TRIES
from finicky.timing import available_cores

# Workbenches that this process has opened, by the hash of what they were opened from: a process of
# the cluster makes many candidates.
_opened: dict[str, Workbench] = {}


class RayWorkers:
    """Tasks of a Ray cluster, at most so many at a time.

    Args:
        bench: Whose candidates are made.
        count: Tasks at a time; 0: one for each CPU of the cluster.
        place: Folder of this machine for what is laid out before it is put into the store.
        address: Of the cluster, as ``auto`` or ``ray://head:10001``; ``None``: one of this machine.
        progress: Told of each task that is done.
    """

    def __init__(
        self,
        bench: Workbench,
        count: int,
        place: Path,
        address: str | None,
        *,
        progress: Progress = silent,
    ) -> None:
        self._progress = progress
        self._bench, self._count, self._place, self._address = bench, count, place, address
        self._ours = False
        self._pending: dict[Any, Task] = {}
        self._inputs: tuple[str, list[Any]] | None = None

    def __enter__(self) -> Self:
        ray = import_ray()
        # Nothing leaves this machine but what the cluster itself needs.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not ray.is_initialized():
            local: dict[str, Any] = {}
            if self._address is None:
                cores = self._count or available_cores()
                local = {"num_cpus": cores, "include_dashboard": False}
            else:
                _knock(self._address)
            try:
                ray.init(self._address, log_to_driver=False, logging_level="ERROR", **local)
            except (ConnectionError, RuntimeError, OSError, ValueError) as error:
                raise DataError(
                    f"no Ray cluster at {self._address or 'this machine'}: "
                    f"{' '.join(str(error).split())[:200]}"
                ) from error
            self._ours = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drop what is being made, and end or leave the cluster."""
        ray = import_ray()
        for reference in self._pending:
            ray.cancel(reference, force=True)
        if self._ours:
            ray.shutdown()

    def run(self, tasks: Iterator[Task], count: int, *, cost: float = 1.0) -> Iterator[Outcome]:
        """The `Executor` protocol."""
        del cost
        ray = import_ray()
        told = SideBySide(self._progress, count)
        key, inputs = self._put()
        make = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_make)
        most = self._count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        while True:
            for task in islice(tasks, most - len(self._pending)):
                told.begin(task)
                self._pending[make.remote(key, inputs, task.to_json())] = task
            if not self._pending:
                return
            ready, _ = ray.wait(list(self._pending), num_returns=1)
            for reference in ready:
                outcome = self._outcome(self._pending.pop(reference), reference)
                told.end()
                yield outcome

    def _put(self) -> tuple[str, list[Any]]:
        """The shared inputs in the object store, once, and what names them."""
        ray = import_ray()
        if self._inputs is None:
            self._bench.lay_out(self._place)
            files = sorted(p for p in self._place.rglob("*") if p.is_file() and p.name != TILES)
            small = {p.relative_to(self._place).as_posix(): p.read_bytes() for p in files}
            hashes = [sha256_bytes(content) for content in small.values()]
            key = sha256_bytes(" ".join([*hashes, sha256_file(self._place / TILES)]).encode())
            # An array is mapped on the other side and not copied.
            tiles = np.load(self._place / TILES, mmap_mode="r")
            self._inputs = key, [ray.put(small), ray.put(np.asarray(tiles))]
        return self._inputs

    def _outcome(self, task: Task, reference: Any) -> Outcome:
        ray = import_ray()
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = str(error.cause).split("\n")[0]
            return Outcome(task.candidate, None, f"on the cluster: {cause}", final=False)
        except ray.exceptions.RayError as error:
            reason = (
                f"its process died {TRIES} times ({type(error).__name__}): killed, out of memory, "
                "or its node was lost"
            )
            return Outcome(task.candidate, None, reason, final=False)
        mine = _versions()
        if answer["versions"] != mine:
            other = {k: v for k, v in answer["versions"].items() if mine.get(k) != v}
            raise DataError(
                f"node {answer['node']} computes with {other}, this machine with "
                f"{ {k: mine.get(k) for k in other} }: install the same on all nodes"
            )
        for name, content in answer["files"].items():
            write_bytes(task.here / name, content)
        return Outcome(task.candidate, **answer["outcome"])


def _make(key: str, inputs: list[Any], value: dict[str, Any]) -> dict[str, Any]:
    """On the cluster: make one candidate; its files come back as bytes."""
    import platform

    bench = _opened.get(key)
    if bench is None:
        bench = _opened[key] = _open(inputs)
    here = Path(tempfile.mkdtemp(prefix="finicky-"))
    try:
        task = Task.from_json(value | {"here": str(here)})
        try:
            outcome = asdict(attempt(bench, task))
        except StorageError as error:
            raise RuntimeError(str(error)) from None
        del outcome["candidate"]
        files = {p.name: p.read_bytes() for p in here.iterdir() if p.is_file()}
    finally:
        shutil.rmtree(here, ignore_errors=True)
    return {
        "outcome": outcome,
        "files": files if outcome["metrics"] is not None else {},
        "node": platform.node(),
        "versions": _versions(),
    }


def _open(inputs: list[Any]) -> Workbench:
    """The workbench from the object store; but for the tiles by way of files that go again."""
    small, tiles = import_ray().get(inputs)
    with tempfile.TemporaryDirectory(prefix="finicky-", ignore_cleanup_errors=True) as folder:
        for name, content in small.items():
            write_bytes(Path(folder) / name, content)
        return Workbench.open(Path(folder), tiles=tiles)


def _knock(address: str) -> None:
    """Refuse an address at which nobody answers; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise DataError(
            f"no Ray cluster at {address}: {error.strerror or error}. Start one with ray start "
            "--head, or leave --ray-address out"
        ) from error


def _versions() -> dict[str, str]:
    return packages() | {"code": code_sha256()[:12]}


def import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "--executor ray needs the package ray: pip install 'finicky-transfer-learning[ray]'"
        ) from error
    return ray
