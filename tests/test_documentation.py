"""What the README and the manual promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT, require_shipped_weights

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.slow
def test_readme_code_runs(tmp_path: Path) -> None:
    require_shipped_weights()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "14,714,688 -> " in done.stdout
    assert sorted(p.name for p in (tmp_path / "small").iterdir()) == [
        "model.safetensors",
        "plan.json",
    ]


@pytest.mark.slow
def test_reference_pages_are_made_from_this_code() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_in_the_manual_exist(page: Path) -> None:
    from typer.main import get_command

    from finicky.cli.app import app

    verbs = set(get_command(app).commands)  # type: ignore[attr-defined]
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    used = re.findall(r"^(?:\.venv/bin/)?finicky (\w[\w-]*)", "\n".join(blocks), flags=re.MULTILINE)
    assert set(used) <= verbs


def test_versions_are_written_once_and_agree() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all("==" in pin for pin in pins if pin and not pin.startswith("#"))
    weights = (ROOT / "requirements-weights.txt").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for pin in re.findall(r"^[a-z0-9-]+==[\d.]+$", weights, flags=re.MULTILINE):
        assert pin in readme
