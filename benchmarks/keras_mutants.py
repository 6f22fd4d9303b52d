"""Damaged Keras files by the thousand, each looked at in a process of its own with limits.

    python benchmarks/keras_mutants.py tests/backbones/keras_files --count 5000

Every look must end in a load or a typed refusal: no signal, no other exception, no limit reached.
POSIX only: one light process forks a child a mutant, with the limits of the first look.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from finicky.backbones.keras.look import look
from finicky.backbones.sandbox import CPU_S, MEMORY_BYTES, _take_limits
from finicky.errors import FinickyError

LOOKED, REFUSED, OTHER = 0, 1, 2


def mutant(whole: np.ndarray, seed: int) -> bytes:
    """Seeded damage: changed bytes (most near the start), a cut end, or a copied block."""
    rng = np.random.default_rng(seed)
    content = whole.copy()
    if seed % 3 == 0:
        places = (rng.random(1 + seed % 40) ** 2 * len(content)).astype(int)
        content[places] = rng.integers(0, 256, len(places), dtype=np.uint8)
    elif seed % 3 == 1:
        content = content[: rng.integers(1, len(content))]
    else:
        start, end = rng.integers(0, len(content) - 600, 2)
        length = rng.integers(1, 512)
        content[start : start + length] = content[end : end + length]
    return content.tobytes()


def verdict(path: Path) -> int:
    """The child's: what the look came to."""
    _take_limits(CPU_S, MEMORY_BYTES)
    try:
        look(path)
    except FinickyError:
        return REFUSED
    except BaseException as error:
        sys.stderr.write(f"{path.name}: {type(error).__name__} {error}\n")
        return OTHER
    return LOOKED


def run(path: Path) -> tuple[str, float, int]:
    """Fork, look, wait: what happened, seconds, peak memory in MB."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os._exit(verdict(path))
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}", seconds, usage.ru_maxrss // 1024
    names = {LOOKED: "looked", REFUSED: "refused", OTHER: "other exception"}
    return names[os.WEXITSTATUS(status)], seconds, usage.ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=5000)
    options = parser.parse_args()
    paths = [p for p in sorted(options.folder.iterdir()) if p.suffix in (".h5", ".keras")]
    files = {p.name: np.frombuffer(p.read_bytes(), np.uint8) for p in paths}
    found: Counter[str] = Counter()
    longest, largest = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.count):
            name = list(files)[seed % len(files)]
            path = Path(folder) / f"mutant{seed}{Path(name).suffix}"
            path.write_bytes(mutant(files[name], seed))
            what, seconds, memory = run(path)
            found[what] += 1
            longest, largest = max(longest, seconds), max(largest, memory)
            if what not in ("looked", "refused"):
                print(f"{name}, seed {seed}: {what}", file=sys.stderr)
            path.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        json.dumps(
            {
                "mutants": options.count,
                "files": len(files),
                **found,
                "longest_s": round(longest, 2),
                "largest_mb": largest,
                "parent_mb": peak,
            }
        )
    )


if __name__ == "__main__":
    main()
