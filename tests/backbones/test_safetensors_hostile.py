"""Malformed safetensors files: refused at once, in one line, whatever they claim."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_ONE = {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}


def _file(header: object, data: bytes = bytes(16), *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _with(**changes: object) -> dict:
    return {"w": _ONE["w"] | changes}


def _two(first: list[int], second: list[int]) -> dict:
    return {n: _ONE["w"] | {"data_offsets": o} for n, o in (("a", first), ("b", second))}


CASES: dict[str, bytes] = {
    "length beyond the file": _file(_ONE, length=1 << 40),
    "length of 2**63": _file(_ONE, length=(1 << 63) + 1),
    "header of 101 MB": _file(json.dumps(_ONE).encode().ljust(101 << 20)),
    "overlap": _file(_two([0, 16], [8, 24]), bytes(24)),
    "gap": _file(_two([0, 16], [20, 36]), bytes(36)),
    "backwards": _file(_with(data_offsets=[16, 0])),
    "negative": _file(_with(data_offsets=[-16, 0])),
    "negative shape": _file(_with(shape=[-4])),
    "another shape": _file(_with(shape=[5])),
    "shape that overflows": _file(_with(shape=[2**62, 2**62])),
    "another type": _file(_with(dtype="F64")),
    "unknown type": _file(_with(dtype="PICKLE")),
    "name twice": _file(json.dumps(_ONE).encode()[:-1] + b", " + json.dumps(_ONE).encode()[1:]),
    "last of many twice": _file(
        b"{" + b"".join(b'"t%d": {}, ' % i for i in range(300_000)) + b'"t299999": {}}'
    ),
    "no text": _file(b'{"\xff": 1}'),
    "trailing bytes": _file(_ONE, bytes(20)),
    "polyglot": _file(_ONE, bytes(16)) + b"PK\x03\x04" + bytes(26),
    "a million tensors": _file(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(10**6)}, b""
    ),
    "cut off": _file(_ONE)[:-9],
    "deep": _file(b"[" * 100_000),
    "no header": b"\x00" * 8,
    "no file": b"",
    "a list": _file([1, 2, 3]),
}

_READ = """
import json, resource, sys, time
from pathlib import Path
from finicky.backbones.state_dict import read_tensors
from finicky.errors import FinickyError
found, start_kb = {}, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for line in sys.stdin:
    path = Path(line.rstrip())
    start = time.process_time()
    try:
        answer = ["read", str(len(read_tensors(path)))]
    except FinickyError as error:
        answer = [type(error).__name__, str(error)]
    except BaseException as error:
        answer = ["UNHANDLED", repr(error)]
    found[path.stem] = [*answer, time.process_time() - start]
kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([found, (kb - start_kb) // 1024]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="memory is measured as POSIX does")
def test_malformed_files_are_refused(tmp_path: Path) -> None:
    paths = []
    for label, content in CASES.items():
        paths.append(tmp_path / f"{label}.safetensors")
        paths[-1].write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", _READ],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        check=True,
    )
    found, memory_mb = json.loads(done.stdout)
    for label in CASES:
        kind, message, seconds = found[label]
        assert kind == "DataError", (label, kind, message)
        assert f"{label}.safetensors" in message
        assert "\n" not in message, (label, message)
        assert seconds < 5, (label, seconds)
    assert memory_mb < 300


def test_a_file_that_cannot_be_opened_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finicky.backbones.state_dict import read_tensors
    from finicky.errors import DataError

    (tmp_path / "w.safetensors").write_bytes(_file(_ONE))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"cannot read .*w\.safetensors: Permission denied"):
        read_tensors(tmp_path / "w.safetensors")


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    from finicky.backbones.state_dict import read_tensors
    from finicky.errors import UnsupportedModelError

    (tmp_path / "w.safetensors").write_bytes(_file(_with(dtype="C64", shape=[2])))
    with pytest.raises(UnsupportedModelError, match="'w' is of complex numbers"):
        read_tensors(tmp_path / "w.safetensors")


def test_an_honest_file_is_read(tmp_path: Path) -> None:
    from finicky.backbones.state_dict import read_tensors

    data = np.arange(4, dtype=np.float32)
    (tmp_path / "w.safetensors").write_bytes(_file(_ONE, data.tobytes()))
    assert read_tensors(tmp_path / "w.safetensors")["w"].tolist() == [0, 1, 2, 3]
