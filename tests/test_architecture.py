"""The house holds: imports run downwards, light rooms stay light, nothing unsafe is called."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import finicky

PACKAGE = Path(finicky.__file__).parent
DOCUMENT = PACKAGE.parent.parent / "docs" / "architecture.md"

# Higher may import lower; a room may import itself; rooms on one floor do not know each other.
FLOORS = (
    ("errors", "_version"),
    ("files", "classes", "progress", "tiling", "images", "spool", "patterns", "web", "flatness"),
    ("masks", "timing", "locks"),
    ("project", "edge"),
    ("data", "service"),
    ("backbones", "doctor"),
    ("pruning",),
    ("importance",),
    ("training", "evaluation", "selection"),
    ("export", "mapping", "ranking"),
    ("pruned", "sweep", "labeler"),
    ("report", "estimator"),
    ("cli",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Only these may be imported when a room of a low floor, or the command line, is loaded.
LIGHT = {"numpy", "PIL", "typer", "rich", "click", "onnxruntime"}
HEAVY = ("torch", "torch_pruning", "sklearn", "scipy", "skimage", "matplotlib", "onnx", "h5py")


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Full names of the modules of ours that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "finicky":
                found |= {f"finicky.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("finicky.")}


def test_every_room_has_a_floor() -> None:
    rooms = {_room(path) for path in _modules()} - {"__init__", "__main__"}
    assert rooms <= set(FLOOR_OF), f"give these rooms a floor: {rooms - set(FLOOR_OF)}"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    room = _room(path)
    if room in ("__init__", "__main__"):
        return  # the package's face looks everywhere, and nothing looks at it
    for name in _imports(path):
        other = name.split(".")[1]
        if other == room or other.startswith("__"):
            continue
        assert FLOOR_OF[other] < FLOOR_OF[room], f"{path}: {room} must not import {name}"


def test_the_documented_floors_are_these() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", text, flags=re.MULTILINE)
    documented = {
        room.removesuffix("/").removesuffix(".py"): int(floor)
        for floor, cell in rows
        for room in re.findall(r"`([^`]+)`", cell)
    }
    assert documented == FLOOR_OF


@pytest.mark.parametrize(
    "module",
    [
        "finicky",
        "finicky.cli",
        "finicky.images",
        "finicky.masks",
        "finicky.project",
        "finicky.data.pairs",
        "finicky.data.tiles",
        "finicky.data.folders",
        "finicky.edge",
    ],
)
def test_light_rooms_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_unsafe_is_called(path: Path) -> None:
    """No pickle is read or written, by torch neither, and nothing evaluates strings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name, text = ast.unparse(node.func), ast.unparse(node)
        assert not name.endswith(("torch.load", "torch.save")), f"{path}:{node.lineno}"
        assert "allow_pickle=True" not in text, f"{path}:{node.lineno}"
        assert name not in {
            "eval",
            "exec",
            "pickle.load",
            "pickle.loads",
            "joblib.load",
            "yaml.load",
        }, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_public_names_are_those_that_exist() -> None:
    for name in finicky.__all__:
        assert getattr(finicky, name) is not None
    assert set(finicky.__all__) <= set(dir(finicky))
