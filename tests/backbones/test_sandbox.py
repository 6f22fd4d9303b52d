"""The first look: the child's verdicts, crashes and limits, as its parent tells them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from finicky.backbones import sandbox
from finicky.backbones.sandbox import first_look
from finicky.errors import DataError, UnsupportedModelError, UsageError

_LOOKS = """
import ctypes, os, signal
from finicky.errors import UnsupportedModelError
def facts(path): return {"size": len(path.read_bytes())}
def refuse(path): raise UnsupportedModelError("layer x is refused")
def crash(path): os.kill(os.getpid(), signal.SIGSEGV)
def spin(path):
    while True: pass
def hoard(path): return {"size": len(bytearray(8 << 30))}
def write(path): path.with_suffix(".stolen").write_bytes(b"x" * 100)
def fail(path): raise KeyError("surprise")
def heavy(path):
    import sys
    return {"torch": "torch" in sys.modules}
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource limits")


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file, and looks at it that misbehave, known by their functions' names."""
    (tmp_path / "strange_looks.py").write_text(_LOOKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ("facts", "refuse", "crash", "spin", "hoard", "write", "fail", "heavy"):
        monkeypatch.setitem(sandbox.LOOKS, name, f"strange_looks:{name}")
    (tmp_path / "model.bin").write_bytes(b"12345")
    return tmp_path / "model.bin"


def test_facts_come_back(strange: Path) -> None:
    assert first_look("facts", strange) == {"size": 5}


def test_a_refusal_keeps_its_class_and_message(strange: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="layer x is refused"):
        first_look("refuse", strange)


@posix
def test_a_crash_of_the_child_is_an_error_of_the_file(strange: Path) -> None:
    with pytest.raises(DataError, match=r"model\.bin: its reader crashed on it \(SIGSEGV\)"):
        first_look("crash", strange)


@posix
def test_processor_time_is_limited(strange: Path) -> None:
    with pytest.raises(DataError, match="took more than 1 s of processor time"):
        first_look("spin", strange, cpu_s=1)


@posix
def test_memory_is_limited(strange: Path) -> None:
    with pytest.raises(DataError, match="more memory than a first look may take"):
        first_look("hoard", strange)


@posix
def test_the_child_writes_no_file(strange: Path) -> None:
    with pytest.raises(DataError, match="its reader"):
        first_look("write", strange)
    stolen = strange.with_suffix(".stolen")
    assert not stolen.exists() or stolen.stat().st_size == 0


def test_an_unforeseen_error_is_one_line(strange: Path) -> None:
    with pytest.raises(DataError, match=r"its reader failed on it .*surprise"):
        first_look("fail", strange)


def test_the_child_does_not_wait_for_torch(strange: Path) -> None:
    assert first_look("heavy", strange) == {"torch": False}


def test_missing_files_and_unknown_kinds_are_misuse(strange: Path) -> None:
    with pytest.raises(UsageError, match=r"no model file .*gone\.h5"):
        first_look("keras", strange.with_name("gone.h5"))
    with pytest.raises(UsageError, match=r"no look for 'kera'\. Did you mean keras"):
        first_look("kera", strange)


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(UsageError, match="no model file"):
        first_look("keras", tmp_path / "pipe.h5")
