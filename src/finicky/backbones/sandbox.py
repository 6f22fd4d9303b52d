"""The first look at a stranger's model file, in a child process with limits.

Native readers have crashed on crafted files before. The child may crash, hang or eat memory; the
parent only reads one line of JSON from it. Run by hand: ``python -m finicky.backbones.sandbox
KIND PATH``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from finicky import errors
from finicky.errors import DataError, FinickyError, UsageError

# What looks at each kind of file: ``(path) -> facts``, plain values for JSON; it raises a
# FinickyError to refuse the file. These modules must not import torch: its start costs seconds.
LOOKS: dict[str, str] = {
    "keras": "finicky.backbones.keras.look:look",
    "onnx": "finicky.backbones.onnx_look:look",
    "onnx-beside": "finicky.backbones.onnx_look:look_beside",
    "program": "finicky.backbones.program.look:look",
}

CPU_S = 8
MEMORY_BYTES = 2 << 30
_WALL_S = 60


def first_look(
    kind: str, path: Path, *, cpu_s: int = CPU_S, memory_bytes: int = MEMORY_BYTES
) -> dict[str, Any]:
    """What a child process found in a file, or the refusal that it came to.

    Args:
        kind: A key of `LOOKS`.
        path: The stranger's file.
        cpu_s: Processor time that the child may use, in s; a file larger than memory allows more.
        memory_bytes: Address space that the child may use; the file's own size comes on top.

    Raises:
        FinickyError: Of the class that the look raised, with its message.
        DataError: The child crashed, or reached a limit; the message says which.
        UsageError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no model file {path}")
    if kind not in LOOKS:
        raise UsageError(f"no look for {kind!r}. {errors.nearest_names(kind, LOOKS)}")
    # Large files are read once or twice; 100 MB/s is slow for any disk cache.
    size = path.stat().st_size
    cpu_s += size // 100_000_000
    memory_bytes += 2 * size
    command = [sys.executable, "-m", "finicky.backbones.sandbox", LOOKS[kind], str(path)]
    command += [str(cpu_s), str(memory_bytes)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_WALL_S + cpu_s,
            env=_environment(),
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise _hostile(path, f"took more than {_WALL_S + cpu_s} s") from error
    return _verdict(path, done, cpu_s)


def _environment() -> dict[str, str]:
    """One thread (each would cost address space), this package findable, no HDF5 plug-ins."""
    source = str(Path(errors.__file__).parent.parent)
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "HDF5_PLUGIN_PRELOAD": "::",
    }


def _verdict(path: Path, done: subprocess.CompletedProcess[bytes], cpu_s: int) -> dict[str, Any]:
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    answer: Any = None
    if lines:
        with suppress(ValueError):
            answer = json.loads(lines[-1])
    if isinstance(answer, dict) and done.returncode == 0:
        if isinstance(facts := answer.get("facts"), dict):
            return facts
        kind = getattr(errors, str(answer.get("error")), DataError)
        if not (isinstance(kind, type) and issubclass(kind, FinickyError)):
            kind = DataError
        raise kind(str(answer.get("message")))
    if done.returncode == -getattr(signal, "SIGXCPU", 24) or done.returncode == -9:
        raise _hostile(path, f"took more than {cpu_s} s of processor time, or its memory")
    if done.returncode < 0:
        raise _hostile(path, f"crashed on it ({signal.Signals(-done.returncode).name})")
    reason = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
    raise _hostile(path, f"failed on it ({reason[-1][:200]})")


def _hostile(path: Path, what: str) -> DataError:
    return DataError(f"{path}: its reader {what}: the file is damaged or hostile")


def main(arguments: list[str]) -> int:
    """The child: take the limits, look, print one line of JSON.

    KIND is a key of `LOOKS`, or what it leads to; then the path, and the two limits or neither.
    """
    if len(arguments) not in (2, 4):
        print("usage: python -m finicky.backbones.sandbox KIND PATH", file=sys.stderr)  # noqa: T201
        return 2
    kind, name = arguments[:2]
    limits = [int(n) for n in arguments[2:]] or [CPU_S, MEMORY_BYTES]
    _take_limits(*limits)
    answer: dict[str, Any]
    try:
        answer = {"facts": _look_of(kind)(Path(name))}
    except FinickyError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        message = f"{name}: it needs more memory than a first look may take: damaged or hostile"
        answer = {"error": "DataError", "message": message}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a library that a file has upset may crash in its own clean-up


def _look_of(kind: str) -> Callable[[Path], dict[str, Any]]:
    module, function = LOOKS.get(kind, kind).split(":")
    look: Callable[[Path], dict[str, Any]] = getattr(import_module(module), function)
    return look


def _take_limits(cpu_s: int, memory_bytes: int) -> None:
    """Processor time, memory, no core dump, no file written. Windows has only the parent's time."""
    try:
        import resource
    except ImportError:
        return
    wanted = (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    )
    for what, limit in wanted:
        with suppress(ValueError, OSError):  # macOS knows RLIMIT_AS and refuses it
            resource.setrlimit(what, (limit, limit))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
