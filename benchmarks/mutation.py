"""Damaged files by the thousand, each read in a process of its own with limits; for benchmarks.

POSIX only: one process forks a child a mutant. Every reading must end in a network or a typed
refusal of one line: no signal, no other exception, no limit reached.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

import numpy as np

from finicky.errors import FinickyError

CPU_S, MEMORY_BYTES = 20, 4 << 30
LARGEST_MB = 500  # more than a child has when it begins
LOADED, REFUSED, UNCLEAR, OTHER = 0, 1, 2, 3
NAMES = {LOADED: "loaded", REFUSED: "refused"}


def bytes_changed(content: bytes, seed: int) -> bytes:
    """Seeded damage: other bytes (most near one end), a cut end, or a copied block."""
    random = np.random.default_rng(seed)
    whole = np.frombuffer(content, np.uint8).copy()
    how = random.integers(3)
    if how == 0:
        places = (random.random(1 + seed % 20) ** 4 * len(whole)).astype(int)
        places = places if random.random() < 0.5 else len(whole) - 1 - places
        whole[places] = random.integers(0, 256, len(places), dtype=np.uint8)
    elif how == 1:
        whole = whole[: random.integers(1, len(whole))]
    else:
        length = random.integers(1, min(512, len(whole) // 3))
        start, end = random.integers(0, len(whole) - length, 2)
        whole[start : start + length] = whole[end : end + length]
    return whole.tobytes()


def _verdict(read: Callable[[Path], object], path: Path) -> int:
    """The child's: what reading came to."""
    for what, limit in ((resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES + _pages(0),) * 2)
    try:
        read(path)
    except FinickyError as error:
        text = str(error)
        if "\n" in text or len(text) > 600 or path.name not in text:
            sys.stderr.write(f"{path.name}: {text[:900]!r}\n")
            return UNCLEAR
        return REFUSED
    except BaseException as error:
        sys.stderr.write(f"{path.name}: {type(error).__name__} {error!s:.300}\n")
        return OTHER
    return LOADED


def _pages(what: int) -> int:
    """Bytes of this process: of addresses (0), or of memory in use (1)."""
    return int(Path("/proc/self/statm").read_text().split()[what]) * resource.getpagesize()


def watched(read: Callable[[Path], object], path: Path) -> tuple[str, float, int]:
    """Fork, read, wait: what happened, processor seconds, memory in MB on top of a fork's."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(told)
        os.write(tell, str(_pages(1) // 1024).encode())  # what it begins with
        os.close(tell)
        os._exit(_verdict(read, path))
    os.close(tell)
    with os.fdopen(told) as stream:
        before = int(stream.read() or 0)
    _, status, usage = os.wait4(child, 0)
    seconds, memory = usage.ru_utime + usage.ru_stime, max(usage.ru_maxrss - before, 0) // 1024
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}", seconds, memory
    code = os.WEXITSTATUS(status)
    if code in NAMES and memory > LARGEST_MB:
        return f"more than {LARGEST_MB} MB", seconds, memory
    others = {UNCLEAR: "unclear line", OTHER: "other exception"}
    return NAMES.get(code) or others.get(code, f"exit {code}"), seconds, memory


def tally(
    mutants: Iterable[tuple[str, bytes]], read: Callable[[Path], object], *, minutes: float
) -> bool:
    """Read mutants, (name, content), and print a line of JSON; whether all ended as they must.

    It ends when the time is over, or with SIGTERM, and says how many it came to.
    """
    found, kinds, bad = Counter[str](), Counter[str](), []
    longest, largest, start, stopped = 0.0, 0, time.monotonic(), False

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, content) in enumerate(mutants):
            if stopped or time.monotonic() - start > 60 * minutes:
                break
            path = Path(folder, f"mutant{number}-{name}")
            path.write_bytes(content)
            what, seconds, memory = watched(read, path)
            found[what] += 1
            kinds["".join(Path(name).suffixes[-1:])] += 1
            longest, largest = max(longest, seconds), max(largest, memory)
            if what not in NAMES.values():
                bad.append(path.name)
                sys.stderr.write(f"{path.name}: {what}, {seconds:.1f} s, {memory} MB\n")
            path.unlink()
    figures = {"mutants": found.total(), "of": kinds, **found, "bad": bad}
    figures |= {"longest_cpu_s": round(longest, 2), "most_memory_on_top_mb": largest}
    print(json.dumps(figures))
    return not bad
