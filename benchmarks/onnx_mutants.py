"""Damaged ONNX files by the thousand, each read in a process of its own with limits.

    python benchmarks/onnx_mutants.py --count 5000

Whole files come from both of PyTorch's exporters, a graph as Paddle's and one as TensorFlow's
converter writes it, and the model that Finicky ships. A mutant has changed bytes, a cut end, a
copied block, or a field of its graph changed so that it still parses. Each is looked at as in the
child process, then rewritten and compared as in the parent. See ``mutation.py`` for what must come
of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from mutation import bytes_changed, tally

import finicky
from finicky.backbones import onnx_look
from finicky.backbones.onnx_graph import reader

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from backbones.exporters import CASES
from backbones.onnx_networks import export, small


def whole_files(folder: Path) -> list[Path]:
    """Networks small enough to be read in some tens of ms."""
    shipped = Path(finicky.__file__).parent / "models" / "crack-vgg16" / "model.onnx"
    return [
        export(small(), folder / "old9.onnx", opset=9, dynamo=False, side=32),
        export(small(), folder / "old17.onnx", opset=17, dynamo=False, side=32),
        export(small(), folder / "new21.onnx", opset=21, dynamo=True, side=32),
        shipped,
        *_by_hand(folder),
    ]


def _by_hand(folder: Path) -> list[Path]:
    paths = []
    for case in ("tensorflow_padded", "paddle_excited"):
        paths.append(folder / f"{case}.onnx")
        onnx.save(CASES[case](), paths[-1])
    return paths


def mutant(content: bytes, seed: int) -> bytes:
    """Seeded damage."""
    if seed % 4:
        # Most of a file is weights, where a changed byte is another honest network.
        return bytes_changed(content, seed)
    random = np.random.default_rng(seed)
    model = onnx.ModelProto.FromString(content)
    for _ in range(1 + seed % 3):
        _change(model, random)
    return model.SerializeToString()


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


def read(path: Path) -> None:
    """As ``load_backbone`` does, with the first look in this process."""
    onnx_look.look(path)
    reader.load(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument("--minutes", type=float, default=14)
    options = parser.parse_args()
    torch.set_num_threads(1)
    reader.first_look = lambda *_: {}  # done in `read`
    with tempfile.TemporaryDirectory() as folder:
        files = [p.read_bytes() for p in whole_files(Path(folder))]
    seeds = range(options.first, options.first + options.count)
    made = ((f"{seed}.onnx", mutant(files[seed // 4 % len(files)], seed)) for seed in seeds)
    sys.exit(0 if tally(made, read, minutes=options.minutes) else 1)


if __name__ == "__main__":
    main()
