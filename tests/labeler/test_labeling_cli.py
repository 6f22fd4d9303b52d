"""``finicky label`` and ``finicky masks`` as they are typed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from labeler_helpers import Server, make_project, workplace
from typer.testing import CliRunner

from finicky.classes import DEFAULT_CLASSES
from finicky.cli.app import app
from finicky.errors import FinickyError, UsageError
from finicky.labeler.states import States
from finicky.masks import read_mask, write_mask


def _run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    place = make_project(tmp_path / "p", photos=25)
    ids = np.zeros((120, 200), np.uint8)
    ids[10:20, 30:40] = 1
    for photo in place.scan():
        write_mask(place.masks / f"{photo.key}.png", ids, DEFAULT_CLASSES)
    return place.root


def test_masks_go_out_and_come_back(project: Path, tmp_path: Path) -> None:
    told = _run("masks", "export", project, tmp_path / "out", "--format", "labelme")
    assert "wrote 25 masks" in told
    assert "crack         round-trip IoU 1.0000" in told
    for path in (project / "masks").iterdir():
        path.unlink()
    words = ("masks", "import", project, tmp_path / "out", "--format", "labelme", "--json")
    looked = json.loads(_run(*words))
    assert looked["dry_run"]
    assert not list((project / "masks").iterdir())  # 25 are many
    assert not json.loads(_run(*words, "--yes"))["dry_run"]
    ids = read_mask(project / "masks" / "photo 3.png.png", DEFAULT_CLASSES)
    assert ids.sum() == 100
    with pytest.raises(UsageError, match="have a mask already"):
        _run(*words, "--yes")
    told = json.loads(_run(*words, "--yes", "--existing", "replace", "--unmarked", "background"))
    assert len(told["replaced"]) == 25
    assert Path(told["backup"]).is_dir()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_ends_it_cleanly_even_while_it_learns(project: Path) -> None:
    place = workplace(project)
    states = States(place)
    for photo in place.scan():
        states.update(photo, status="done")
    server = Server(project)
    server.start()
    time.sleep(2)  # until it learns from its 25 photos
    assert server.process is not None
    server.process.send_signal(signal.SIGINT)
    try:
        assert server.process.wait(30) in (0, 130)
    finally:
        server.kill()


@pytest.mark.parametrize(
    "words",
    [
        ("masks", "export", "{project}", "{out}", "--format", "yolo", "--tolerance", "-1"),
        ("masks", "export", "{project}", "{out}", "--format", "tiff"),
        ("masks", "import", "{project}", "{out}/none", "--format", "coco"),
        ("masks", "import", "{project}", "{out}", "--format", "coco", "--unmarked", "rust"),
        ("label", "{out}/none", "--no-browser"),
        ("label", "{project}", "--no-browser", "--host", "0.0.0.0"),
    ],
)
def test_misuse_is_a_clear_error(project: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    filled = [word.format(project=project, out=tmp_path / "out") for word in words]
    with pytest.raises(FinickyError):
        _run(*filled)
