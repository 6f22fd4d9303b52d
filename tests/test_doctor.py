"""`finicky doctor`: what is missing or broken, and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from finicky import examine
from finicky.cli.app import app


def _project(root: Path) -> Path:
    for folder in ("photos", "masks"):
        (root / folder).mkdir(parents=True)
    for name in ("zdjęcie 1", "zdjęcie 2"):
        Image.fromarray(np.full((40, 60, 3), 120, np.uint8)).save(root / "photos" / f"{name}.png")
        ids = np.zeros((40, 60), np.uint8)
        ids[20, 5:50] = 1
        Image.fromarray(ids).save(root / "masks" / f"{name}.png")
    return root


def _state(diagnosis: dict[str, object], name: str) -> dict[str, str]:
    checks = diagnosis["checks"]
    assert isinstance(checks, list)
    return next(check for check in checks if check["name"] == name)


def test_a_whole_project_on_a_whole_computer_is_ready(tmp_path: Path) -> None:
    diagnosis = examine(_project(tmp_path / "mosty świat"))
    assert diagnosis.ready, diagnosis
    found = {check.name: check.found for check in diagnosis.checks}
    assert found["photos"] == "all 2 can be read"
    assert found["masks"] == "2 photos with a mask, 2 of them show the target"
    assert found["model crack-vgg16"] == "opens and answers"
    assert "torch " in found["extra train"]


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [
        (lambda p: (p / "photos" / "zdjęcie 1.png").write_bytes(b"x"), "photos", "1 of 2 cannot"),
        (lambda p: (p / "masks" / "zdjęcie 2.png").write_bytes(b"x"), "masks", "1 cannot be used"),
        (lambda p: (p / "finicky.toml").write_text("x"), "project", "finicky.toml"),
    ],
)
def test_a_fault_is_named_with_its_remedy(
    tmp_path: Path, spoil: object, name: str, words: str
) -> None:
    root = _project(tmp_path)
    spoil(root)  # type: ignore[operator]
    result = CliRunner().invoke(app, ["doctor", str(root), "--json"])
    assert result.exit_code == 1
    diagnosis = json.loads(result.stdout)
    assert not diagnosis["ready"]
    check = _state(diagnosis, name)
    assert check["state"] == "failed"
    assert words in check["found"]
    assert check["remedy"]


def test_a_new_project_is_told_to_label(tmp_path: Path) -> None:
    root = _project(tmp_path)
    for mask in (root / "masks").iterdir():
        mask.unlink()
    diagnosis = examine(root)
    assert diagnosis.ready
    assert diagnosis.checks[-1].remedy == f"finicky label {root}"


def test_an_extra_that_is_missing_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import finicky.doctor as doctor

    asked = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda p: None if p == "timm" else asked(p))
    diagnosis = examine()
    check = next(c for c in diagnosis.checks if c.name == "extra zoo")
    assert (check.state, check.found) == ("missing", "without timm")
    assert "finicky-transfer-learning[zoo]" in check.remedy
    assert diagnosis.ready
