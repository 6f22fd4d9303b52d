"""The base install, made anew: small, without torch, and it inspects photos."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finicky.cli.app import app
from finicky.cli.extras import extras_of, missing

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MOST_BYTES = 150_000_000

# Every verb with arguments that are right in form. Those of the first list work in the base
# install; each of the second needs an extra and has to say so in one line.
WORK = ("predict", "bench", "init", "masks", "doctor")
CALLS = {
    "demo": ["--out", "demo"],
    "init": ["made"],
    "tiles": ["project", "--out", "tiles"],
    "label": ["project", "--no-browser"],
    "prune": [
        "--photos",
        "project/photos",
        "--masks",
        "project/masks",
        "--keep",
        "0.5",
        "--out",
        "cut",
    ],
    "run": ["project", "--out", "run"],
    "select": ["nothing"],
    "report": ["nothing"],
    "compare": ["project", "--out", "compared"],
    "export": ["nothing", "--out", "bundle"],
    "predict": ["crack-vgg16", "project/photos", "--out", "found"],
    "bench": ["crack-vgg16", "--seconds", "0.1"],
    "serve": ["crack-vgg16", "--no-browser"],
    "doctor": [],
    "features": ["vgg16", "--tiles", "project", "--out", "features.npz"],
    "train": ["nothing", "--out", "head"],
    "test": ["nothing", "--head", "nothing"],
    "train-backbone": ["vgg16", "--data", "project", "--out", "backbone"],
    "surfaces": ["--out", "surfaces"],
    "masks": ["export", "project", "masks", "--format", "index-png"],
    "backbone": ["show", "vgg16"],
}

PROGRAM = """
import contextlib, importlib.util, io, json, sys
from finicky.cli import main

found = {}
for verb, arguments in json.loads(sys.argv[1]).items():
    sys.argv = ["finicky", verb, *arguments]
    code, err = 0, io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    found[verb] = [code, err.getvalue()]
heavy = ("torch", "sklearn", "scipy", "skimage", "onnx", "matplotlib", "starlette")
found["loaded"] = [name for name in heavy if name in sys.modules]
found["there"] = [name for name in heavy if importlib.util.find_spec(name)]
print(json.dumps(found))
"""


def pip(*arguments: object, environment: dict[str, str] | None = None) -> None:
    call = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel and what it declares, nothing else."""
    folder = tmp_path_factory.mktemp("small")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    limits = ("-c", ROOT / "constraints-edge.txt")
    try:
        pip("install", "--target", folder / "build", "hatchling>=1.25")
        pip("--python", python, "install", "--no-compile", *limits, *PROJECT["dependencies"])
    except RuntimeError as error:
        pytest.skip(f"packages cannot be installed here: {error}")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "wheel"],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(folder / "build"), "PATH": ""},
    )
    (wheel,) = (folder / "wheel").iterdir()
    pip("--python", python, "install", "--no-compile", "--no-deps", "--no-index", wheel)
    return python


@pytest.fixture(scope="module")
def told(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """What each verb said in the base install, and its exit code."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("photos", "masks"):
        (folder / "project" / name).mkdir(parents=True)
    rgb = np.full((120, 160, 3), 200, np.uint8)
    rgb[50:54] = 40
    Image.fromarray(rgb).save(folder / "project" / "photos" / "p.png")
    mask = Image.fromarray((rgb[..., 0] < 99).astype(np.uint8))
    mask.putpalette([0, 0, 0, 213, 94, 0])
    mask.save(folder / "project" / "masks" / "p.png.png")
    call = [small, "-c", PROGRAM, json.dumps(CALLS)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    with (folder / "found" / "summary.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["status"] == "ok"
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_base_install_is_small(small: Path):
    """Counted: every file that pip wrote, without bytecode, which Python may make later."""
    lib = next(p for p in (small.parent.parent / "lib").rglob("site-packages"))
    size = sum(p.stat().st_size for p in lib.rglob("*") if p.is_file() and p.suffix != ".pyc")
    assert 50_000_000 < size < MOST_BYTES, f"{size / 1e6:.0f} MB"


@pytest.mark.slow
def test_nothing_heavy_is_there_or_loaded(told: dict[str, list]):
    assert told["there"] == []
    assert told["loaded"] == []


@pytest.mark.slow
def test_the_base_install_does_what_it_is_for(told: dict[str, list]):
    for verb in WORK:
        code, said = told[verb]
        assert code == 0, said


@pytest.mark.slow
@pytest.mark.parametrize("verb", sorted(set(CALLS) - set(WORK)))
def test_what_needs_more_says_what_to_install(told: dict[str, list], verb: str):
    code, said = told[verb]
    assert code in (1, 2)
    (line,) = said.splitlines()
    assert line.startswith("error: ")
    assert "pip install 'finicky-transfer-learning[" in line
    assert "defect" not in line


def test_the_verbs_tried_are_there():
    names = {c.name or c.callback.__name__ for c in app.registered_commands}
    names |= {g.name for g in app.registered_groups}
    assert set(CALLS) <= {name.replace("_", "-") for name in names}


def test_every_package_of_an_extra_is_known():
    declared = [
        f"{entry}; extra == '{extra}'"
        for extra, entries in PROJECT["optional-dependencies"].items()
        for entry in entries
    ]
    found = extras_of([*PROJECT["dependencies"], *declared])
    assert found["torch"] == found["torch_pruning"] == found["sklearn"] == "train"
    assert found["starlette"] == "label"
    assert found["timm"] == "zoo"
    assert not {"numpy", "PIL", "pillow", "pytest", "finicky_transfer_learning"} & set(found)


def test_a_module_of_ours_is_not_taken_for_a_package():
    assert missing("finicky.gone") is None
    assert missing(None) is None
