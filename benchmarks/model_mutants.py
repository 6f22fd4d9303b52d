"""Damaged model files of every kind but ONNX, each read in a process of its own with limits.

    python benchmarks/model_mutants.py --count 200

That many of each kind: .pt2, .pt (zip, and as PyTorch before 1.6), .safetensors, .h5 and .keras. A
mutant has changed bytes, a cut end or a copied block; or, in archives, a member that was damaged so
and packed anew, so that the sum of its bytes is right; or another value somewhere in its JSON. See
``mutation.py`` for what must come of it.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutation import bytes_changed, tally
from safetensors.torch import save_file

from finicky.backbones.keras import look as keras_look
from finicky.backbones.keras import reader as keras
from finicky.backbones.program import look as program_look
from finicky.backbones.program import reader as program
from finicky.backbones.state_dict import read_tensors, strip_prefix
from finicky.backbones.zoo import fill

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from backbones.onnx_networks import small
from backbones.programs import export_program

ROOT = Path(__file__).parent.parent
KERAS = ("plain.keras2.h5", "residual.keras3.h5", "mixed.keras3.keras", "squeeze.keras2.keras")


def whole_files(folder: Path) -> dict[str, bytes]:
    """By name; networks small enough to be read in some tens of ms."""
    state = small().state_dict()
    torch.save({"state_dict": state, "epoch": 3}, folder / "zip.pt")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "w.safetensors")
    export_program(small(), folder / "p.pt2", side=32)
    found = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    files = ROOT / "tests" / "backbones" / "keras_files"
    return found | {name: (files / name).read_bytes() for name in KERAS}


def mutants(files: dict[str, bytes], count: int, first: int) -> Iterator[tuple[str, bytes]]:
    for name, content in files.items():
        for seed in range(first, first + count):
            yield f"{seed}-{name}", _mutant(name, content, seed)


def _mutant(name: str, content: bytes, seed: int) -> bytes:
    if content.startswith(b"PK") and seed % 4:
        return _repacked(content, seed)
    if name.endswith(".safetensors") and seed % 2:
        size = struct.unpack("<Q", content[:8])[0]
        header = _json_changed(content[8 : 8 + size], seed)
        return struct.pack("<Q", len(header)) + header + content[8 + size :]
    return bytes_changed(content, seed)


def _repacked(content: bytes, seed: int) -> bytes:
    """The archive with one member damaged, most often one that says how the others are read."""
    random, sink = np.random.default_rng(seed), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(sink, "w") as new:
        names = old.namelist()
        telling = [n for n in names if n.endswith((".json", ".pkl"))] or names
        chosen = str(random.choice(telling if seed % 8 else names))
        for name in names:
            data = old.read(name)
            if name == chosen and len(data) > 3:
                data = (_json_changed if name.endswith(".json") else bytes_changed)(data, seed)
            new.writestr(name, data)
    return sink.getvalue()


def _json_changed(content: bytes, seed: int) -> bytes:
    """Another value, or none, in some places of a JSON text."""
    random, value = np.random.default_rng(seed), json.loads(content)
    for _ in range(1 + seed % 3):
        parent, key, inner = None, None, value
        while isinstance(inner, (dict, list)) and inner and random.random() < 0.95:
            parent = inner
            keys = list(inner) if isinstance(inner, dict) else range(len(inner))
            key = keys[random.integers(len(keys))]
            inner = inner[key]
        if parent is None:
            continue
        if random.random() < 0.15:
            del parent[key]
        elif isinstance(parent, list) and random.random() < 0.1:
            parent.extend(parent[:50])
        else:
            parent[key] = _other(inner, random)
    return json.dumps(value).encode()


def _other(value: Any, random: np.random.Generator) -> Any:
    if isinstance(value, (int, float)):
        choices = [0, 1, -1, 2, 3, 7, 64, 2**31, 2**62, 10**400, 1e300, 2 * value, value + 1]
        return choices[random.integers(len(choices))]
    choices = [None, [], {}, "x", "", 3, True, "../x", "a" * 5000, [[1] * 99], "Lambda", "None"]
    return choices[random.integers(len(choices))]


def read(path: Path) -> None:
    """As ``load_backbone`` does, with the first look in this process."""
    if path.suffix == ".pt2":
        program_look.look(path)
        program.load(path)
    elif path.suffix in (".h5", ".keras"):
        keras_look.look(path)
        keras.load(path)
    else:
        network = small()
        fill(network, strip_prefix(read_tensors(path), network.state_dict()), path, "small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="Of each of the eight files.")
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument("--only", default="", help="Of files whose names end so.")
    parser.add_argument("--minutes", type=float, default=14)
    options = parser.parse_args()
    torch.set_num_threads(1)
    program.first_look = keras.first_look = lambda *_: {}  # done in `read`
    with tempfile.TemporaryDirectory() as folder:
        files = whole_files(Path(folder))
    files = {n: c for n, c in files.items() if n.endswith(options.only)}
    made = mutants(files, options.count, options.first)
    sys.exit(0 if tally(made, read, minutes=options.minutes) else 1)


if __name__ == "__main__":
    main()
