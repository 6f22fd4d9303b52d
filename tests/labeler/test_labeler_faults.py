"""What happens to strokes when the machine fails: in a real Chromium, with a real server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labeler_bench import Bench
from labeler_helpers import Server, make_project

TOLD = '#save[data-state="offline"]:has-text("stroke kept in this browser")'
# No file may grow beyond this: what a full disk or a quota does, without needing one.
SMALL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1500, -1))"


def _state(bench: Bench) -> str:
    return str(bench.page.locator("#save").get_attribute("data-state"))


def _noise(bench: Bench) -> None:
    """A stroke whose mask takes many bytes."""
    bench.page.evaluate(
        "labeler.fillRuns((emit) => { let seed = 1; for (let y = 0; y < 100; y++)"
        " for (let x = 0; x < 190; x++) {"
        " seed = (seed * 1103515245 + 12345) % 2147483648;"
        " if (seed > 1e9) emit(y, x, x + 1); } })"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
def test_a_full_disk_is_told_and_nothing_is_lost(chromium: Any, served: Server) -> None:
    import resource

    link = served.start(SMALL_DISK)
    bench = Bench(chromium, served, link=link)
    bench.thin()
    bench.drag((10, 110), (60, 110))
    bench.saved()
    good = bench.path().read_bytes()
    _noise(bench)
    bench.page.wait_for_selector(TOLD)
    assert "free space" in str(bench.page.locator("#save").get_attribute("title"))
    time.sleep(1)  # a few more tries
    assert bench.path().read_bytes() == good
    assert [path.name for path in bench.path().parent.iterdir()] == [bench.path().name]
    assert served.process is not None
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (-1, -1))  # somebody made room
    bench.saved()
    np.testing.assert_array_equal(bench.stored(), bench.shown())
    assert bench.stored().sum() > 4000
    bench.close()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A project that can be made unwritable, for root too: its own small file system."""
    root = tmp_path / "p"
    root.mkdir()
    mounts = os.name == "posix" and os.geteuid() == 0
    if mounts:
        command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(root)]
        mounted = shutil.which("mount") and subprocess.run(command, capture_output=True)
        if not mounted or mounted.returncode:
            pytest.skip("root may write everywhere, and cannot mount a file system here")
    make_project(root)
    yield root
    _writable(root, True)
    if mounts:
        subprocess.run(["umount", "-l", str(root)], check=True)


def _writable(root: Path, wanted: bool) -> None:
    if os.geteuid() == 0:
        command = ["mount", "-o", f"remount,{'rw' if wanted else 'ro'}", str(root)]
        subprocess.run(command, check=True)
    else:
        for folder in (root, root / "masks", root / "state"):
            if folder.exists():
                folder.chmod(0o755 if wanted else 0o555)


def test_a_read_only_folder_is_told_and_nothing_is_lost(chromium: Any, read_only: Path) -> None:
    server = Server(read_only)
    _writable(read_only, False)
    bench = Bench(chromium, server)  # it opens all the same
    bench.thin()
    bench.drag((10, 5), (30, 5))
    bench.page.wait_for_selector(TOLD)
    bench.page.reload()  # the browser keeps it
    bench.page.wait_for_selector('body[data-ready="1"]', timeout=60_000)
    assert not list((read_only / "masks").iterdir())
    _writable(read_only, True)
    bench.page.reload()
    bench.page.wait_for_selector('body[data-ready="1"]')
    bench.saved()
    assert bench.stored().sum() == 21
    np.testing.assert_array_equal(bench.stored(), bench.shown())
    bench.close()
    server.kill()


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot stop a process")
def test_a_computer_that_slept_over_night_loses_nothing(chromium: Any, served: Server) -> None:
    """It falls asleep while a stroke is on its way and wakes to a server that answers no more."""
    link = served.start()
    bench = Bench(chromium, served, link=link, clock=True)
    bench.thin()
    bench.drag((10, 5), (30, 5))
    bench.saved()
    assert served.process is not None
    served.process.send_signal(signal.SIGSTOP)  # what it was sent stays unanswered
    bench.drag((10, 9), (30, 9))
    bench.page.clock.fast_forward("08:00:00")
    bench.drag((10, 13), (30, 13))
    served.process.send_signal(signal.SIGCONT)
    bench.until("labeler.unsaved === 0")
    assert bench.stored().sum() == 63
    served.process.send_signal(signal.SIGSTOP)
    bench.drag((10, 17), (30, 17))
    served.kill()  # the battery was empty
    bench.page.clock.fast_forward("08:00:00")
    bench.until("document.querySelector('#save').dataset.state === 'offline'")
    assert _state(bench) == "offline"
    bench.restart()
    bench.page.evaluate("window.dispatchEvent(new Event('focus'))")
    bench.until("labeler.unsaved === 0")
    assert bench.stored().sum() == 84
    assert not (served.root / "state" / "conflicts").exists()
    bench.close()
