"""On a Ray cluster the same bytes as on this machine alone, even when its processes are killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from finicky.data.surfaces import write_surfaces
from finicky.errors import DataError, MissingDependencyError, UsageError
from finicky.files import sha256_file
from finicky.project import Project
from finicky.sweep import Execution, SweepSettings, run_sweep
from finicky.sweep.events import Event

SETTINGS = SweepSettings(
    backbone="alexnet",
    train=("frozen",),
    weights="random",
    keep_ratios=(0.1, 0.3, 0.5),
    tile=64,
    head_seeds=1,
    latency_seconds=0,
    maps=False,
)
MARK = "FINICKY_TEST_OF_RAY"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("ray") / "p"
    write_surfaces(root, 14, seed=3, width=256, height=192)
    return Project.open(root)


def _found(out: Path) -> dict[str, str]:
    files = [out / "results.csv", *out.glob("candidates/*/*"), *out.glob("selected/*")]
    return {p.relative_to(out).as_posix(): sha256_file(p) for p in files if p.is_file()}


def _busy(mark: str) -> list[int]:
    """Processes of our own cluster that are making a candidate."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
            marked = f"{MARK}={mark}".encode() in (place / "environ").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::_make") and marked:
            found.append(int(place.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_cluster_with_a_process_killed_finds_the_same_bytes(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    monkeypatch.setenv(MARK, tmp_path.name)
    run_sweep(project, tmp_path / "alone", SETTINGS, execution=Execution(1))
    killed: list[int] = []

    def listen(event: Event) -> None:
        if event.kind == "candidate" and not killed:
            killed.extend(_busy(tmp_path.name)[:1])
            for process in killed:
                os.kill(process, signal.SIGKILL)

    cluster = Execution(2, "ray")
    run_sweep(project, tmp_path / "ray", SETTINGS, execution=cluster, listen=listen)
    assert killed, "no process was at work when the first candidate was done"
    assert _found(tmp_path / "ray") == _found(tmp_path / "alone")
    assert not (tmp_path / "ray" / ".scratch").exists()
    assert _busy(tmp_path.name) == []


def test_without_ray_the_extra_is_named(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"needs the package ray.*\[ray\]"):
        run_sweep(project, tmp_path / "run", SETTINGS, execution=Execution(executor="ray"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_cluster_that_is_not_there_is_named(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    execution = Execution(executor="ray", ray_address="127.0.0.1:1")
    with pytest.raises(DataError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        run_sweep(project, tmp_path / "run", SETTINGS, execution=execution)


def test_executors_are_checked_before_any_work() -> None:
    with pytest.raises(UsageError, match=r"no executor named 'rai'\. Did you mean ray"):
        Execution(executor="rai")
    with pytest.raises(UsageError, match="needs --executor ray"):
        Execution(ray_address="auto")
