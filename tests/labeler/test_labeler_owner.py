"""Two labelers on one project: the second one is refused; a killed one is never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from labeler_helpers import Server, free_port, make_project

from finicky.errors import DataError
from finicky.labeler import Workplace
from finicky.labeler.owner import sole_owner

HOLD = (
    "import sys, time; from pathlib import Path; from labeler_helpers import workplace\n"
    "from finicky.labeler.owner import sole_owner\n"
    "with sole_owner(workplace(Path(sys.argv[1]))):\n"
    "    print('held', flush=True); time.sleep(60)\n"
)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return make_project(tmp_path / "p")


@pytest.fixture
def first(place: Workplace) -> Iterator[Server]:
    server = Server(place.root)
    server.start()
    yield server
    server.kill()


def test_a_second_labeler_is_refused_at_once_and_told_of_the_first(first: Server) -> None:
    started = time.monotonic()
    words = ["label", str(first.root), "--no-browser", "--port", str(free_port())]
    second = subprocess.run(
        [sys.executable, "-c", "from finicky.cli import main; main()", *words],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert time.monotonic() - started < 5  # two seconds on an idle machine
    assert first.process is not None
    assert second.returncode == 1
    assert second.stdout == ""
    assert f"process {first.process.pid} on " in second.stderr
    assert f"port {first.port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_the_lock_of_a_killed_labeler_is_free(place: Workplace) -> None:
    """And that of a living one is not."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for _ in range(8):
        command = [sys.executable, "-c", HOLD, str(place.root)]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="open in another labeler"), sole_owner(place):
            pass
        holder.kill()
        holder.wait()
        holder.stdout.close()
        with sole_owner(place):
            pass


def test_a_folder_that_cannot_be_written_is_opened_without_a_lock(place: Workplace) -> None:
    place.state.write_text("a file where the folder should be")
    with sole_owner(place):
        pass
