"""The run folder: what counts as done, who may write, and what a crash can leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from finicky.errors import DataError, StorageError, UsageError
from finicky.files import read_sealed, remove_leftovers, write_bytes, write_sealed, write_tensors
from finicky.locks import OWNER, process_mark, refuse_taken, sole_owner
from finicky.sweep.folder import CANDIDATE_FILES, RunFolder
from finicky.sweep.journal import Journal

CONDITIONS = {
    "seed": 0,
    "targets": ["crack"],
    "version": "1",
    "data_sha256": "a",
    "weights_sha256": "a",
    "code_sha256": "a",
    "packages": {"torch": "2.12", "numpy": "2"},
}

HOLD = """
import sys, time
from pathlib import Path
from finicky.locks import sole_owner
with sole_owner(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def _records(path: Path, count: int) -> Journal:
    journal = Journal(path)
    for number in range(count):
        journal.append("finished", candidate=f"keep-0.{number + 1}", note='ü "quoted", crc')
    return journal


def test_journal_cut_at_any_byte_loses_at_most_the_torn_record(tmp_path: Path) -> None:
    journal = _records(tmp_path / "j", 6)
    whole = journal.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    positions = range(ends[2], len(whole))
    assert len(positions) > 300
    for cut in positions:
        journal.path.write_bytes(whole[:cut])
        records, torn = journal.read()
        complete = sum(end <= cut + 1 for end in ends)  # a lost line end loses nothing
        assert len(records) == complete, cut
        assert torn == (cut not in ends and cut + 1 not in ends), cut


def test_record_after_a_torn_one_is_read(tmp_path: Path) -> None:
    journal = _records(tmp_path / "j", 2)
    journal.path.write_bytes(journal.path.read_bytes()[:-7])
    journal.append("started")
    records, torn = journal.read()
    assert [r["event"] for r in records] == ["finished", "started"]
    assert torn == 1


@pytest.mark.parametrize(
    "line",
    [
        *(b"garbage", b"{}", b"[1]", b"null", b"\x00" * 40, b"\xff\xfe", b'{"event": "made"}'),
        *(b'{"event": "made", "crc": "00000000"}', b'"crc"', b'{"a": 1, "crc": "'),
    ],
)
def test_lines_that_are_not_ours_are_counted_and_left_out(tmp_path: Path, line: bytes) -> None:
    journal = _records(tmp_path / "j", 2)
    content = journal.path.read_bytes()
    journal.path.write_bytes(line + b"\n" + content + line + b"\n")
    records, foreign = journal.read()
    assert len(records) == 2
    assert foreign == 2


def test_flipping_any_bit_of_a_journal_line_drops_that_line_only(tmp_path: Path) -> None:
    journal = _records(tmp_path / "j", 2)
    whole = bytearray(journal.path.read_bytes())
    first = whole.index(10)
    for place in range(first):
        changed = bytearray(whole)
        changed[place] ^= 1
        journal.path.write_bytes(changed)
        records, _ = journal.read()
        assert len(records) == 1, place


def test_append_that_finds_no_room_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = _records(tmp_path / "j", 1)
    before = journal.path.read_bytes()
    real = os.write

    def half(handle: int, content: bytes) -> int:
        real(handle, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(StorageError, match=r"could not write .*j: No space left"):
        journal.append("started")
    assert journal.path.read_bytes() == before


def test_sealed_file_shows_any_change(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_sealed(path, {"f1": 0.91, "files": {"a": "b"}})
    assert read_sealed(path) == {"f1": 0.91, "files": {"a": "b"}}
    path.write_text(path.read_text().replace("0.91", "0.92"))
    with pytest.raises(DataError, match="not as it was written"):
        read_sealed(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="no seal"):
        read_sealed(path)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """With two finished candidates and one finished step."""
    folder = RunFolder(tmp_path / "run")
    folder.open(CONDITIONS)
    write_sealed(folder.root / "run.json", {"conditions": CONDITIONS})
    for name in ("keep-1", "keep-0.5"):
        for file in CANDIDATE_FILES:
            write_bytes(folder.candidate(name) / file, f"{name} {file}".encode())
        folder.finish(name, {"candidate": name})
    write_bytes(folder.tiles / "a.png", b"a")
    write_bytes(folder.tiles / "tiles.csv", b"t")
    folder.record("tiles", folder.tiles.rglob("*"))
    return folder


def test_finished_steps_and_candidates_are_known_again(folder: RunFolder) -> None:
    assert folder.finished("keep-1") == {"candidate": "keep-1"} | {
        "files": folder.finished("keep-1")["files"]  # type: ignore[index]
    }
    assert folder.changed_in("keep-0.5") == []
    assert folder.changed_in("keep-0.1") is None
    assert folder.finished("keep-0.1") is None
    assert folder.changed("tiles") == []
    assert folder.changed("crops") is None


@pytest.mark.parametrize("file", [*CANDIDATE_FILES, "metrics.json"])
def test_flipped_byte_is_found_and_named(folder: RunFolder, file: str) -> None:
    _flip(folder.candidate("keep-0.5") / file)
    assert folder.changed_in("keep-0.5") == [f"candidates/keep-0.5/{file}"]
    assert folder.finished("keep-0.5") is None
    assert folder.finished("keep-1") is not None


def test_missing_and_changed_files_of_a_step_are_named(folder: RunFolder) -> None:
    _flip(folder.tiles / "a.png")
    (folder.tiles / "tiles.csv").unlink()
    assert folder.changed("tiles") == ["tiles/a.png", "tiles/tiles.csv"]


def test_touching_files_changes_nothing(folder: RunFolder) -> None:
    for path in folder.root.rglob("*"):
        os.utime(path, (1, 1))
    assert folder.changed_in("keep-0.5") == []
    assert folder.changed("tiles") == []


def test_failure_is_remembered_if_it_is_for_good(folder: RunFolder) -> None:
    folder.fail("keep-0.5", "parity refused", final=True)
    folder.fail("keep-0.1", "MemoryError: ", final=False)
    assert folder.failed("keep-0.5") == "parity refused"
    assert folder.finished("keep-0.5") is None
    assert folder.failed("keep-0.1") is None
    assert folder.failed("keep-1") is None


def test_leftovers_of_killed_writers_go_and_nothing_else(folder: RunFolder) -> None:
    orphan = folder.candidate("keep-1") / ".model.onnx.ab12_x9z.tmp"
    other = folder.candidate("keep-1") / "notes.tmp"
    hidden = folder.root / ".lock"
    for path in (orphan, other, hidden):
        path.write_bytes(b"half")
    folder.open(CONDITIONS)
    assert not orphan.exists()
    assert other.exists() and hidden.exists()
    assert remove_leftovers(folder.root) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, r"seed \(0 then, 1 now\)"),
        ({"targets": ["pore"]}, r"targets \(\['crack'\] then"),
        ({"version": "2"}, r"version \(1 then, 2 now\)"),
        ({"new": 1}, r"new \(None then, 1 now\)"),
        ({"data_sha256": "b"}, r"data_sha256 \(photos, masks, classes or split\)"),
        ({"weights_sha256": "b"}, r"weights_sha256 \(the backbone's weights\)"),
        ({"code_sha256": "b"}, r"code_sha256 \(Finicky's own code\)"),
        ({"packages": {"torch": "2.13", "numpy": "2"}}, r"packages \(torch 2.12 then, 2.13 now\)"),
        ({"seed": 1, "version": "2"}, r"seed .*, version "),
    ],
    ids=lambda c: next(iter(c)) if isinstance(c, dict) else "",
)
def test_other_conditions_are_refused_by_name(folder: RunFolder, change: dict, named: str) -> None:
    with pytest.raises(UsageError, match=rf"holds a run with other {named}.*: .*--force"):
        folder.open(CONDITIONS | change)
    assert folder.finished("keep-1") is not None
    folder.open(CONDITIONS | change, force=True)
    assert folder.finished("keep-1") is None
    assert not folder.journal.path.exists()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the folder ``run``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    yield process
    process.kill()
    process.communicate()


def test_second_process_is_refused_and_told_of_the_first(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    root, start = tmp_path / "run", time.monotonic()
    for attempt in (lambda: sole_owner(root).__enter__(), lambda: refuse_taken(root)):
        with pytest.raises(DataError, match=rf"in use by process {holder.pid} on .*, since 20"):
            attempt()
    assert time.monotonic() - start < 4


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_folder_of_a_killed_process_is_taken_over(tmp_path: Path, holder: subprocess.Popen) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / "run" / OWNER).read_text())["pid"] == holder.pid
    with sole_owner(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / OWNER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run" / OWNER).exists()


class _NoLocks:
    """A file system that knows no locks."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def acquire(self) -> None:
        raise OSError(95, "Operation not supported")

    def release(self) -> None: ...


def test_without_locks_the_record_of_the_owner_decides(
    tmp_path: Path, holder: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filelock.FileLock", _NoLocks)
    with pytest.raises(DataError, match=f"process {holder.pid} "):
        sole_owner(tmp_path / "run").__enter__()
    record = json.loads((tmp_path / "run" / OWNER).read_text())
    for change in ({"started": "earlier"}, {"pid": 2**22 + 1}):  # its number was used anew; gone
        (tmp_path / "run" / OWNER).write_text(json.dumps(record | change))
        with sole_owner(tmp_path / "run"):
            pass
    (tmp_path / "run" / OWNER).write_text(json.dumps(record | {"host": "elsewhere"}))
    with pytest.raises(DataError, match="on elsewhere"):
        sole_owner(tmp_path / "run").__enter__()


def test_a_process_has_one_mark_all_its_life() -> None:
    mine = process_mark(os.getpid())
    assert mine == process_mark(os.getpid())
    assert mine is None or mine != process_mark(1)


def test_folder_made_for_nothing_is_taken_away(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new")
    with pytest.raises(DataError, match="no photos"), folder.owned():
        raise DataError("no photos")
    assert not folder.root.exists()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_equal_tensors_make_equal_files(tmp_path: Path) -> None:
    """safetensors orders its notes at random; hashes of heads must not depend on that."""
    tensors = {"weight": np.arange(5, dtype=np.float32), "bias": np.ones(1, dtype=np.float32)}
    notes = {name: name for name in "abcdef"}
    for number in range(20):
        write_tensors(tmp_path / f"{number}", save(tensors, metadata=notes))
    contents = {(tmp_path / f"{number}").read_bytes() for number in range(20)}
    assert len(contents) == 1
    with safe_open(tmp_path / "0", framework="numpy") as file:
        assert file.metadata() == notes
        assert {k: file.get_tensor(k).tolist() for k in file.keys()} == {  # noqa: SIM118
            "weight": [0, 1, 2, 3, 4],
            "bias": [1],
        }
