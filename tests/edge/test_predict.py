"""Inspecting photos into a folder: rows, files, bad photos, resume, kill."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import finicky
from edge.edge_helpers import CELL, TILE, dark_bundle
from finicky.edge import InspectSettings, PredictSettings, inspect_photo, open_bundle, rule_for
from finicky.edge.photos import opened_photo
from finicky.edge.scan import plan, scan
from finicky.errors import UsageError
from finicky.images import read_image


def wall(seed: int, *, width: int = 100, height: int = 70) -> np.ndarray:
    """Bright noise with a dark bar of 40 by 8 px at (20, 24 + seed % 3)."""
    rgb = np.random.default_rng(seed).integers(190, 230, (height, width, 3)).astype(np.uint8)
    top = 24 + 4 * (seed % 3)
    rgb[top : top + 8, 20:60] = 10
    return rgb


def walls(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.fromarray(wall(k)).save(folder / f"p{k:03}.png")
    return folder


def rows(path: Path, separator: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=separator))


def content(out: Path) -> dict[str, bytes]:
    kinds = ("overlays", "masks", "geojson")
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for kind in kinds
        for p in sorted((out / kind).rglob("*"))
        if p.is_file()
    }


def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    code = "from finicky.cli import main; main()"
    call = [sys.executable, "-c", code, "predict", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return dark_bundle(tmp_path / "bundle")


def test_a_dark_bar_is_found_where_it_is(tmp_path, bundle):
    photos, out = walls(tmp_path / "photos", 1), tmp_path / "out"
    result = finicky.predict(bundle, photos, out)
    assert (result.ok, result.failed, result.with_target, result.regions) == (1, 0, 1, 1)
    (row,) = rows(out / "summary.csv")
    assert (row["file"], row["width"], row["height"], row["status"]) == (
        "p000.png",
        "100",
        "70",
        "ok",
    )
    assert row["crack_area_px"] == "320"
    (defect,) = rows(out / "defects.csv")
    assert [defect[k] for k in "xywh"] == ["20", "24", "40", "8"]
    assert defect["length_mm"] == defect["lat"] == ""
    mask = np.asarray(Image.open(out / "masks" / "p000.png.png"))
    expected = np.zeros((70, 100), np.uint8)
    expected[24:32, 20:60] = 1
    np.testing.assert_array_equal(mask, expected)
    overlay = Image.open(out / "overlays" / "p000.png.jpg")
    assert overlay.size == (100, 70)
    assert np.asarray(overlay)[28, 30, 0] > 80  # tinted
    shape = json.loads((out / "geojson" / "p000.png.geojson").read_text())
    assert shape["coordinates"] == "pixel-topleft"
    (feature,) = shape["features"]
    ((ring,),) = feature["geometry"]["coordinates"]
    assert sorted(map(tuple, ring[:-1])) == [(20, 24), (20, 32), (60, 24), (60, 32)]
    run = json.loads((out / "run.json").read_text())
    assert run["conditions"]["model_sha256"] == open_bundle(bundle).sha256
    assert run["counts"] == {"ok": 1, "failed": 0, "skipped": 0}
    assert "p000.png" in (out / "report.html").read_text()


def test_without_the_map_the_grid_is_as_fine_as_the_stride(bundle):
    opened = open_bundle(bundle)
    rule = rule_for(opened, InspectSettings(use_map=False))
    found = inspect_photo(opened, wall(0), rule)
    assert found.place.cell == TILE / 2
    assert found.scores.shape == (5, 7)


@pytest.mark.parametrize("size", [(100, 70), (33, 45), (20, 90), (5, 5), (1, 1), (200, 31)])
@pytest.mark.parametrize("merge", ["gaussian", "constant"])
def test_every_cell_has_a_probability(bundle, size, merge):
    opened = open_bundle(bundle)
    place = plan(*size, tile=TILE, stride=12, cell=float(CELL))
    from finicky.edge.photos import Photo

    black = Photo(np.zeros((size[1], size[0], 3), np.uint8))
    scores = scan(black, opened.session(1), place, merge=merge)
    assert scores.shape == (-(-size[1] // CELL), -(-size[0] // CELL))
    assert (scores > 0.99).all()


def test_threads_change_nothing(bundle):
    opened = open_bundle(bundle)
    rule = rule_for(opened)
    with ThreadPoolExecutor(3) as pool:
        one, three = (inspect_photo(opened, wall(3), rule, pool=p) for p in (None, pool))
    np.testing.assert_array_equal(one.scores, three.scores)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rows_are_those_of_the_reader(tmp_path, monkeypatch, orientation):
    monkeypatch.setattr("finicky.edge.photos._AT_ONCE", 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "p.png"
    Image.fromarray(wall(1)).save(path, exif=exif)
    whole = read_image(path)
    with opened_photo(path) as photo:
        assert (photo.height, photo.width) == whole.shape[:2]
        np.testing.assert_array_equal(photo.rows(10, 33), whole[10:33])


def test_bad_photos_are_rows_and_change_nothing_for_the_others(tmp_path, bundle):
    good = walls(tmp_path / "good", 5)
    finicky.predict(bundle, good, tmp_path / "alone")
    mixed = walls(tmp_path / "mixed", 5)
    (mixed / "p0005.jpg").write_bytes(b"<html>no photo</html>")
    (mixed / "p001b.png").write_bytes((mixed / "p001.png").read_bytes()[:900])
    (mixed / "empty.jpg").touch()
    (mixed / "notes.txt").write_text("no photo")
    result = finicky.predict(bundle, mixed, tmp_path / "together")
    assert (result.ok, result.failed, result.skipped) == (5, 3, 1)
    assert content(tmp_path / "alone") == content(tmp_path / "together")
    table = {row["file"]: row for row in rows(tmp_path / "together" / "summary.csv")}
    assert len(table) == 9
    assert table["p0005.jpg"]["status"] == "failed"
    assert "web page" in table["p0005.jpg"]["reason"]
    # The file is named beside it, and its folder is nobody's business.
    assert table["empty.jpg"]["reason"].startswith("it is empty. Copy it again from its source, or")
    assert table["p0005.jpg"]["crack_n_regions"] == ""
    assert table["notes.txt"]["status"] == "skipped"
    assert result.too_many_bad(0.01)
    assert not result.too_many_bad(0.5)


def test_the_report_says_how_far_to_trust_it(tmp_path, bundle):
    rgb = np.full((200, 300, 3), 220, np.uint8)
    for k in range(12):  # gravel
        rgb[20 + 60 * (k // 6) :, 20 + 48 * (k % 6) :][:16, :16] = 10
    (tmp_path / "photos").mkdir()
    Image.fromarray(rgb).save(tmp_path / "photos" / "gravel.png")
    finicky.predict(bundle, tmp_path / "photos", tmp_path / "a", PredictSettings(mm_per_px=2))
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "1 photo has 10 regions or more: look at it first" in page
    assert re.search(r"longest 16 px \(3[0-9] mm\)", page)
    assert "0.5 is guessing" not in page  # the model's file says nothing of it
    walls(tmp_path / "walls", 1)
    checked = {"METU <i>": {"balanced_accuracy": [0.953, 0.93, 0.97]}, "CFD": {}}
    for name, figures in (("b", dict(list(checked.items())[:1])), ("c", checked)):
        told = dark_bundle(tmp_path / f"told-{name}", metrics={"checked": figures})
        finicky.predict(told, tmp_path / "walls", tmp_path / name)
    page = (tmp_path / "b" / "report.html").read_text(encoding="utf-8")
    assert "METU &lt;i&gt; 0.95 (0.5 is guessing)" in page
    assert "regions or more" not in page
    assert "0.5 is guessing" not in (tmp_path / "c" / "report.html").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="needs names and files that Windows does not have")
def test_odd_files_and_names_get_their_row(tmp_path, bundle):
    folder = walls(tmp_path / "photos", 1)
    picture = (folder / "p000.png").read_bytes()
    os.mkfifo(folder / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(os.path.relpath(folder / "plug.jpg"))
    (folder / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (tmp_path / "outside.png").write_bytes(picture)
    (folder / "out.png").symlink_to(tmp_path / "outside.png")
    (folder / "folder.jpg").mkdir()
    names = ["a\nb.png", "q\"'<b>.png", "-dash.png", "=cell.png", "x" * 251 + ".png"]
    for name in names:
        (folder / name).write_bytes(picture)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")).write_bytes(picture)
    began = time.monotonic()
    result = finicky.predict(bundle, folder, tmp_path / "out")
    assert time.monotonic() - began < 10
    assert result.ok == 2 + len(names)
    table = {row["file"]: row for row in rows(tmp_path / "out" / "summary.csv")}
    assert len(table) == result.ok + result.failed + result.skipped
    for name in ("fifo.jpg", "plug.jpg", "broken.jpg", "loop.jpg", "out.png"):
        assert table[name]["status"] == "failed", name
    assert table["'=cell.png"]["status"] == "ok"  # spreadsheets must not run it
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>.png" not in page
    assert "&lt;b&gt;.png" in page


def test_a_finished_photo_is_not_done_again(tmp_path, bundle):
    photos, out = walls(tmp_path / "photos", 4), tmp_path / "out"
    finicky.predict(bundle, photos, out)
    whole, table = content(out), (out / "summary.csv").read_bytes()
    journal = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (out / "journal.jsonl").write_bytes(b"".join(journal[:2]) + b"garbage\n" + journal[2][:40])
    before = {p: p.stat().st_mtime_ns for p in sorted((out / "masks").iterdir())}
    result = finicky.predict(bundle, photos, out, PredictSettings(resume=True))
    assert result.ok == 4
    assert content(out) == whole
    done = [p.stat().st_mtime_ns == before[p] for p in sorted((out / "masks").iterdir())]
    assert done == [True, True, False, False]
    assert [r["file"] for r in rows(out / "summary.csv")] == [f"p{k:03}.png" for k in range(4)]
    assert (out / "summary.csv").read_bytes().splitlines()[:3] == table.splitlines()[:3]


def test_what_a_power_cut_left_empty_is_made_again(tmp_path, bundle):
    photos, out = walls(tmp_path / "photos", 3), tmp_path / "out"
    finicky.predict(bundle, photos, out)
    whole = content(out)
    (out / "overlays" / "p001.png.jpg").write_bytes(b"")
    (out / "geojson" / "p002.png.geojson").unlink()
    before = (out / "masks" / "p000.png.png").stat().st_mtime_ns
    finicky.predict(bundle, photos, out, PredictSettings(resume=True))
    assert content(out) == whole
    assert (out / "masks" / "p000.png.png").stat().st_mtime_ns == before


def test_a_changed_photo_and_a_mended_one_are_done_again(tmp_path, bundle):
    photos, out = walls(tmp_path / "photos", 2), tmp_path / "out"
    (photos / "bad.png").write_bytes(b"no photo")
    finicky.predict(bundle, photos, out)
    Image.fromarray(wall(9)).save(photos / "bad.png")
    Image.new("RGB", (64, 64), "white").save(photos / "p000.png")
    result = finicky.predict(bundle, photos, out, PredictSettings(resume=True))
    assert (result.ok, result.failed, result.with_target) == (3, 0, 2)


def test_results_of_other_settings_are_not_mixed(tmp_path, bundle):
    photos, out = walls(tmp_path / "photos", 1), tmp_path / "out"
    finicky.predict(bundle, photos, out)
    with pytest.raises(UsageError, match="holds results already: go on with --resume"):
        finicky.predict(bundle, photos, out)
    other = PredictSettings(InspectSettings(high=0.9), resume=True)
    with pytest.raises(UsageError, match="holds results with other rule: choose another"):
        finicky.predict(bundle, photos, out, other)
    finicky.predict(bundle, photos, out, PredictSettings(InspectSettings(high=0.9), force=True))
    with pytest.raises(UsageError, match="holds other files"):
        finicky.predict(bundle, photos, photos, PredictSettings(force=True))
    assert (photos / "p000.png").is_file()


def test_killed_at_half_it_goes_on(tmp_path, bundle):
    photos, out = walls(tmp_path / "photos", 200), tmp_path / "out"
    code = "from finicky.cli import main; main()"
    call = [sys.executable, "-c", code, "predict", str(bundle), str(photos), "--out", str(out)]
    with subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        journal = out / "journal.jsonl"
        while child.poll() is None:
            if journal.is_file() and journal.read_bytes().count(b"\n") >= 100:
                child.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        child.wait()
    kept = journal.read_bytes().count(b"\n")
    assert 100 <= kept < 200, "it was to be killed in the middle"
    for line in journal.read_bytes().splitlines()[:kept]:
        key = json.loads(line)["key"]
        Image.open(out / "masks" / f"{key}.png").load()
        Image.open(out / "overlays" / f"{key}.jpg").load()
    assert len(rows(out / "summary.csv")) >= 98
    done = command(bundle, photos, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{kept} files done earlier" in done.stderr
    assert [row["file"] for row in rows(out / "summary.csv")] == [
        f"p{k:03}.png" for k in range(200)
    ]
    assert not list(out.rglob("*.tmp"))


def test_the_command_tells_what_it_did_and_its_exit_code(tmp_path, bundle):
    photos = walls(tmp_path / "photos", 3)
    done = command(bundle, photos, "--out", tmp_path / "a", "--excel", "--separator", ";")
    assert done.returncode == 0
    assert "3 of 3 photos with crack, 3 regions" in done.stdout
    assert "3 photos, 72 tiles, expected to take" in done.stderr
    assert (tmp_path / "a" / "summary.csv").read_bytes().startswith(b"\xef\xbb\xbffile;width")
    assert len(rows(tmp_path / "a" / "defects.csv", ";")) == 3
    (photos / "bad.png").write_bytes(b"no photo")
    done = command(bundle, photos, "--out", tmp_path / "b", "--json", "--scale", "0.5")
    assert done.returncode == 3
    assert json.loads(done.stdout)["failed"] == 1
    assert float(rows(tmp_path / "b" / "defects.csv")[0]["length_mm"]) > 10
    assert command(bundle, photos, "--out", tmp_path / "c", "--max-bad", "0.5").returncode == 0
    nothing = command(bundle, tmp_path / "bundle", "--out", tmp_path / "d")
    assert nothing.returncode == 2
    assert "no photo found in" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--conf", "crak=0.5"], "no class named 'crak'. Did you mean crack?"),
        (["--conf", "crack=x"], "--conf must be like crack=0.6"),
        (["--conf", "crack=1.5"], "thresholds must be 0 < low <= high < 1"),
        (["--overlap", "1.0"], "the overlap must be a share"),
        (["--overlap", "32px"], "pixels below the tile's 32 px"),
        (["--merge", "gauss"], "no merge named 'gauss'. Did you mean gaussian?"),
        (["--scale", "0"], "the scale must be above 0"),
    ],
)
def test_misuse_is_one_line(tmp_path, bundle, arguments, reason):
    photos = walls(tmp_path / "photos", 1)
    done = command(bundle, photos, "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_lists_and_patterns_name_photos(tmp_path, bundle):
    photos = walls(tmp_path / "photos", 3)
    (tmp_path / "list.txt").write_text("# two\nphotos/p000.png\nphotos/p002.png\nphotos/gone.png\n")
    result = finicky.predict(bundle, f"@{tmp_path / 'list.txt'}", tmp_path / "a")
    assert (result.ok, result.failed) == (2, 1)
    assert rows(tmp_path / "a" / "summary.csv")[1]["file"] == "p000.png"
    assert finicky.predict(bundle, str(photos / "p00[12].png"), tmp_path / "b").ok == 2
    several = [photos / "p000.png", photos / "p001.png"]
    assert finicky.predict(bundle, several, tmp_path / "c").ok == 2


def test_results_inside_the_photos_are_not_taken_for_photos(tmp_path, bundle):
    photos = walls(tmp_path / "photos", 2)
    finicky.predict(bundle, photos, photos / "results")
    settings = PredictSettings(resume=True)
    assert finicky.predict(bundle, photos, photos / "results", settings).ok == 2


@pytest.mark.slow
@pytest.mark.real_data
def test_every_hostile_file_has_its_row(tmp_path, bundle, real_data):
    folder = real_data / "hostile_images"
    done = command(bundle, folder, "--out", tmp_path / "out", "--no-geojson")
    assert done.returncode == 3, done.stderr
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    table = rows(tmp_path / "out" / "summary.csv")
    assert {row["file"].removeprefix("'") for row in table} == files
    assert max(float(row["seconds"] or 0) for row in table) < 5
    ok = sum(row["status"] == "ok" for row in table)
    assert ok > 100
