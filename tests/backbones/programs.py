"""Exported PyTorch programs, good and bad, for the tests of their reader."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

Members = dict[str, bytes]


def export_program(
    network: nn.Module, path: Path, *, kind: str = "any batch", side: int = 64
) -> Path:
    """Write a network as a program for any batch, for one photo, or of core operators only."""
    many = kind == "any batch"
    x = torch.rand(2 if many else 1, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("batch")},) if many else None
        program = torch.export.export(network, (x,), dynamic_shapes=shapes)
        if kind == "core":
            program = program.run_decompositions()
        torch.export.save(program, str(path))
    return path


def members(path: Path) -> Members:
    """Everything in an archive, by name behind the root folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: Members, root: str = "p") -> Path:
    """An archive of these members, as PyTorch stores them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def changed(whole: Path, path: Path, change: Callable[[Any], None]) -> Path:
    """The same program after its graph was changed."""
    content = members(whole)
    name = next(n for n in content if n.startswith("models/"))
    graph = json.loads(content[name])
    change(graph)
    return write(path, content | {name: json.dumps(graph).encode()})


def node(graph: Any, target: str) -> Any:
    """The first call of an operator."""
    return next(n for n in graph["graph_module"]["graph"]["nodes"] if target in n["target"])
