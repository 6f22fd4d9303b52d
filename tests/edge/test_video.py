"""Videos: every so many-th frame is a photo with a row; a broken video is a row with the reason."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import finicky
from edge.edge_helpers import dark_bundle
from finicky.edge import FrameSettings, PredictSettings
from finicky.edge.video import check_videos, is_video
from finicky.errors import MissingDependencyError, UsageError


def video(path: Path, frames: int = 20, scale: int = 1) -> Path:
    """Light grey 160 by 96 px; from frame 10 on there is a dark bar of 64 by 16 px."""
    codec = "mpeg2video" if path.suffix == ".mpg" else "mpeg4"
    av = pytest.importorskip("av", reason="av is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 160 * scale, 96 * scale
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for k in range(frames):
            rgb = np.full((96, 160, 3), 210, np.uint8)
            if k >= 10:
                rgb[32:48, 32:96] = 5
            rgb = np.kron(rgb, np.ones((scale, scale, 1), np.uint8))
            for packet in stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(newline="") as stream:
        return {row["file"]: row for row in csv.DictReader(stream)}


def command(*arguments: object) -> subprocess.CompletedProcess:
    code = "from finicky.cli import main; main()"
    call = [sys.executable, "-c", code, "predict", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return dark_bundle(tmp_path / "bundle")


def test_each_fifth_frame_has_its_row(tmp_path, bundle):
    out = tmp_path / "out"
    done = command(bundle, video(tmp_path / "drive.mp4"), "--every", 5, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = table(out)
    assert list(rows) == [f"drive.mp4/{k:08}.jpg" for k in (0, 5, 10, 15)]
    assert [row["crack_n_regions"] for row in rows.values()] == ["0", "0", "1", "1"]
    with Image.open(out / "frames" / "drive.mp4" / "00000010.jpg") as frame:
        assert frame.size == (160, 96)
    run = json.loads((out / "run.json").read_text())
    assert run["conditions"]["frames"] == {"every": 5, "most": None}


def test_frames_are_taken_beside_photos_and_gone_on_with(tmp_path, bundle):
    drive, out = video(tmp_path / "drive.mp4"), tmp_path / "out"
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64), "white").save(tmp_path / "photos" / "p.png")
    settings = PredictSettings(frames=FrameSettings(every=2, most=3))
    result = finicky.predict(bundle, [tmp_path / "photos", drive], out, settings)
    assert result.ok == 4
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.jpg*")}
    again = PredictSettings(frames=FrameSettings(every=2, most=3), resume=True)
    assert finicky.predict(bundle, [tmp_path / "photos", drive], out, again).ok == 4
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.jpg*")} == before
    with pytest.raises(UsageError, match="results with other frames"):
        finicky.predict(bundle, drive, out, PredictSettings(resume=True))


def test_frames_of_another_video_of_the_name_are_taken_anew(tmp_path, bundle):
    drive, out = video(tmp_path / "drive.mp4", frames=20), tmp_path / "out"
    every = FrameSettings(every=5)
    assert finicky.predict(bundle, drive, out, PredictSettings(frames=every)).with_target == 2
    video(drive, frames=10)  # light grey only, and shorter
    again = finicky.predict(bundle, drive, out, PredictSettings(frames=every, resume=True))
    assert (again.ok, again.with_target) == (2, 0)
    assert len(table(out)) == len(list((out / "frames" / "drive.mp4").glob("*.jpg"))) == 2


def test_a_camera_is_not_gone_on_with(tmp_path, bundle):
    pytest.importorskip("av", reason="av is not installed")
    with pytest.raises(UsageError, match="a camera cannot be gone on with"):
        finicky.predict(bundle, "camera:0", tmp_path / "out", PredictSettings(resume=True))


def test_a_video_that_grows_on_its_way_is_refused_where_it_does(tmp_path, bundle):
    """Headers tell of the first pictures only: the size of each counts."""
    small, large = video(tmp_path / "a.mpg"), video(tmp_path / "b.mpg", scale=4)
    grows = tmp_path / "grows.mpg"
    grows.write_bytes(small.read_bytes() + large.read_bytes())
    settings = PredictSettings(frames=FrameSettings(every=5), max_pixels=160 * 96)
    result = finicky.predict(bundle, grows, tmp_path / "out", settings)
    assert result.ok == 4
    assert "it is 640x384, more than 15360 px" in table(tmp_path / "out")["grows.mpg"]["reason"]


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_a_broken_video_is_a_row(tmp_path, bundle, content):
    good = video(tmp_path / "good.mp4")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(good.read_bytes()[:700] if content is None else content)
    result = finicky.predict(bundle, [good, bad], tmp_path / "out")
    assert (result.ok, result.failed) == (1, 1)
    row = table(tmp_path / "out")["bad.mp4"]
    assert row["status"] == "failed"
    assert "a video that cannot be read: " in row["reason"]


def test_a_camera_that_is_not_there_is_a_row(tmp_path, bundle):
    pytest.importorskip("av", reason="av is not installed")
    done = command(bundle, "camera:99", "--out", tmp_path / "out")
    assert done.returncode == 3
    assert table(tmp_path / "out")["camera-99"]["status"] == "failed"


def test_a_video_names_no_other_file(tmp_path, bundle):
    """A playlist in a video's clothes must open neither other files nor hosts."""
    secret = video(tmp_path / "secret.mp4")
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{secret.name}'\n")
    (tmp_path / "live.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n")
    began = time.monotonic()
    result = finicky.predict(bundle, [playlist, tmp_path / "live.mp4"], tmp_path / "out")
    assert (result.ok, result.failed) == (0, 2)
    assert time.monotonic() - began < 8


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    assert is_video("a.MP4")
    assert is_video("camera:0")
    assert not is_video("a.jpg")
    with pytest.raises(UsageError, match="must be at least 1, got 0"):
        FrameSettings(every=0).check()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"finicky-transfer-learning\[video\]"):
        check_videos([tmp_path / "a.mp4"], resume=False)


def test_what_cannot_be_begun_leaves_no_folder_behind(tmp_path, bundle, monkeypatch):
    pytest.importorskip("av", reason="av is not installed")
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"gone\.mp4 is not there"):
        finicky.predict(bundle, tmp_path / "gone.mp4", out)
    assert not out.exists()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError):
        finicky.predict(bundle, "camera:0", out)
    assert not out.exists()


def test_two_videos_of_one_name_are_refused(tmp_path, bundle):
    (tmp_path / "other").mkdir()
    pair = [video(tmp_path / "a.mp4"), video(tmp_path / "other" / "a.mp4")]
    with pytest.raises(UsageError, match=r"two videos are called 'a\.mp4'"):
        finicky.predict(bundle, pair, tmp_path / "out")


def test_a_list_can_be_given_as_an_option(tmp_path, bundle):
    (tmp_path / "photos").mkdir()
    for name in ("ż 1.png", "b.png"):
        Image.new("RGB", (64, 64), "white").save(tmp_path / "photos" / name)
    names = tmp_path / "list.txt"
    names.write_text("\ufeffphotos/ż 1.png\r\n# no\r\nphotos/b.png\r\n", encoding="utf-8")
    done = command(bundle, "--list", names, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert list(table(tmp_path / "out")) == ["b.png", "ż 1.png"]
    nothing = command(bundle, "--out", tmp_path / "other")
    assert nothing.returncode == 2
    assert "give photos, folders, patterns, videos or --list" in nothing.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_interrupted_it_keeps_what_is_done(tmp_path, bundle):
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for k in range(150):
        rgb = rng.integers(0, 255, (120, 160, 3)).astype(np.uint8)
        Image.fromarray(rgb).save(tmp_path / "photos" / f"{k:03}.png")
    out = tmp_path / "out"
    code = "from finicky.cli import main; main()"
    call = [sys.executable, "-c", code, "predict", bundle, tmp_path / "photos", "--out", out]
    with subprocess.Popen(list(map(str, call)), stderr=subprocess.PIPE, text=True) as child:
        journal = out / "journal.jsonl"
        while child.poll() is None:
            if journal.is_file() and journal.read_bytes().count(b"\n") >= 20:
                child.send_signal(signal.SIGINT)
                break
            time.sleep(0.005)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in said
    assert f"finished photos are in {out}; go on: the same command" in said
    kept = journal.read_bytes().count(b"\n")
    assert 20 <= kept < 150
    assert len(table(out)) == kept
    done = command(bundle, tmp_path / "photos", "--out", out, "--resume")
    assert done.returncode == 0
    assert f"{kept} files done earlier" in done.stderr
    assert len(table(out)) == 150
