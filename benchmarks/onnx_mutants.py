"""Damaged ONNX files by the thousand, each read in a process of its own with limits.

    python benchmarks/onnx_mutants.py --count 5000

Whole files come from both of PyTorch's exporters, a graph as TensorFlow's converter writes it, and
the model that Finicky ships. A mutant has changed bytes, a cut end, a copied block, or a field of
its graph changed so that it still parses. Each is looked at as in the child process, then rewritten
and compared as in the parent, and must end in a network or a typed refusal: no signal, no other
exception, no limit reached. POSIX only: a child is forked a mutant.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import finicky
from finicky.backbones import onnx_look
from finicky.backbones.onnx_graph import reader
from finicky.errors import FinickyError

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from backbones.onnx_networks import export, small

CPU_S, MEMORY_BYTES = 20, 4 << 30
LOADED, LOOKED, REFUSED, OTHER = 0, 1, 2, 3


def whole_files(folder: Path) -> list[Path]:
    """Networks small enough to be read in some tens of ms."""
    shipped = Path(finicky.__file__).parent / "models" / "crack-vgg16" / "model.onnx"
    return [
        export(small(), folder / "old9.onnx", opset=9, dynamo=False, side=32),
        export(small(), folder / "old17.onnx", opset=17, dynamo=False, side=32),
        export(small(), folder / "new21.onnx", opset=21, dynamo=True, side=32),
        shipped,
    ]


def mutant(content: bytes, seed: int) -> bytes:
    """Seeded damage."""
    random = np.random.default_rng(seed)
    whole = np.frombuffer(content, np.uint8).copy()
    if seed % 4 == 0:
        # Most of a file is weights, where a changed byte is another honest network.
        places = (random.random(1 + seed % 20) ** 4 * len(whole)).astype(int)
        places = places if random.random() < 0.5 else len(whole) - 1 - places
        whole[places] = random.integers(0, 256, len(places), dtype=np.uint8)
    elif seed % 4 == 1:
        whole = whole[: random.integers(1, len(whole))]
    elif seed % 4 == 2:
        start, end = random.integers(0, len(whole) - 600, 2)
        length = random.integers(1, 512)
        whole[start : start + length] = whole[end : end + length]
    else:
        model = onnx.ModelProto.FromString(content)
        for _ in range(1 + seed % 3):
            _change(model, random)
        return model.SerializeToString()
    return whole.tobytes()


def _change(model: Any, random: np.random.Generator) -> None:
    """Another value in one field of a parsed file."""
    message, field = model, None
    while True:
        fields = [f for f, _ in message.ListFields() if f.name != "raw_data"]
        if not fields:
            return
        field = fields[random.integers(len(fields))]
        value = getattr(message, field.name)
        many = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
        if many and len(value) == 0:
            return
        if field.message_type is None:
            break
        message = value[random.integers(len(value))] if many else value
    new = _other(value[0] if many else value, random)
    if not many:
        _assign(message, field.name, new)
    elif random.random() < 0.3:
        del value[random.integers(len(value))]
    else:
        try:
            value[random.integers(len(value))] = new
        except (TypeError, ValueError):
            return


def _assign(message: Any, name: str, new: Any) -> None:
    try:
        setattr(message, name, new)
    except (TypeError, ValueError):
        return


def _other(value: Any, random: np.random.Generator) -> Any:
    if isinstance(value, int):
        return int(random.choice([0, 1, -1, 2, 3, 7, 64, 255, 2**31 - 1, value + 1, 2 * value + 2]))
    if isinstance(value, float):
        return float(random.choice([0.0, -1.0, 1e30, float("nan"), float("inf"), value * 2]))
    if isinstance(value, str):
        return str(
            random.choice(["", "x", "Conv", "Add", "Reshape", "Gather", "../x", value + "1"])
        )
    return bytes(value[::-1])


def verdict(path: Path) -> int:
    """The child's: what reading came to."""
    for what, limit in ((resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES + _address_space(),) * 2)
    looked = False
    try:
        onnx_look.look(path)
        looked = True
        reader.first_look = lambda *_: {}  # done above, in this process
        reader.load(path)
    except FinickyError:
        return LOOKED if looked else REFUSED
    except BaseException as error:
        sys.stderr.write(f"{path.name}: {type(error).__name__} {error}\n")
        return OTHER
    return LOADED


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def run(path: Path) -> tuple[str, float, int]:
    """Fork, read, wait: what happened, seconds, peak memory in MB."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os._exit(verdict(path))
    _, status, usage = os.wait4(child, 0)
    seconds, memory = time.perf_counter() - start, usage.ru_maxrss // 1024
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}", seconds, memory
    names = {
        LOADED: "loaded",
        LOOKED: "looked at, then refused",
        REFUSED: "refused",
        OTHER: "other exception",
    }
    return names[os.WEXITSTATUS(status)], seconds, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: Counter[str] = Counter()
    longest, largest = 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [p.read_bytes() for p in whole_files(folder)]
        for seed in range(options.first, options.first + options.count):
            path = folder / f"mutant{seed}.onnx"
            path.write_bytes(mutant(files[seed // 4 % len(files)], seed))
            what, seconds, memory = run(path)
            found[what] += 1
            longest, largest = max(longest, seconds), max(largest, memory)
            if what not in ("loaded", "looked at, then refused", "refused"):
                print(f"seed {seed}: {what}", file=sys.stderr)
            path.unlink()
    figures = {"mutants": options.count, "files": len(files), **found}
    print(json.dumps(figures | {"longest_s": round(longest, 2), "largest_mb": largest}))


if __name__ == "__main__":
    main()
