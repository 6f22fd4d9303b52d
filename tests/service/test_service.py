"""Photos to `finicky serve` and results back: as predict has them, bounded, and gone at the end."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image
from service_helpers import Live, png, wall

import finicky
from edge.edge_helpers import dark_bundle
from finicky.edge import open_bundle
from finicky.service import Inspector, Limits, ServiceOptions, serve
from finicky.web import bound


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    running = Live(tmp_path_factory.mktemp("live"))
    yield running
    running.close()


def test_a_photo_gets_what_predict_finds(live: Live, tmp_path: Path) -> None:
    status, found = live.post(png(wall()))
    assert status == 200
    assert (found["width"], found["height"], found["n_defects"]) == (100, 70, 1)
    assert found["probability"] > 0.99
    (defect,) = found["defects"]
    assert [defect[k] for k in "xywh"] == [20, 24, 40, 8]
    assert defect["length_mm"] is None
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "p.png").write_bytes(png(wall()))
    finicky.predict(live.inspector.bundle, tmp_path / "photos", tmp_path / "out")
    for kind, folder, suffix in (("overlay", "overlays", ".jpg"), ("mask", "masks", ".png")):
        _, content, headers = live.ask("GET", f"/api/results/{found['id']}/{kind}")
        assert content == (tmp_path / "out" / folder / f"p.png{suffix}").read_bytes()
        assert headers["content-disposition"].startswith("inline")
    heat = Image.open(io.BytesIO(live.ask("GET", f"/api/results/{found['id']}/map")[1]))
    assert heat.size == (100, 70)
    assert np.asarray(heat)[28, 30] > 250
    table = live.ask("GET", f"/api/results/{found['id']}/table")[1].decode()
    (row,) = csv.DictReader(io.StringIO(table))
    assert (row["area_px"], row["length_mm"]) == ("320", "")
    shapes = json.loads(live.ask("GET", f"/api/results/{found['id']}/outlines")[1])
    assert len(shapes["features"]) == 1


def test_a_full_disk_is_507_and_names_no_path(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    body = png(wall())
    with monkeypatch.context() as disk:
        disk.setattr(Image.Image, "save", full)
        status, found = live.post(body)
    assert (status, found["error"]) == (507, "no room for the results: No space left on device")
    assert live.post(png(wall()))[0] == 200


def test_the_browser_keeps_no_results(live: Live) -> None:
    _, found = live.post(png(wall()))
    for kind in found["files"]:
        headers = live.ask("GET", f"/api/results/{found['id']}/{kind}")[2]
        assert headers.get_all("cache-control") == ["no-store"], kind


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.1.20"])
def test_as_many_links_are_told_as_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("finicky.service.server.bound", lambda _, port: bound("127.0.0.1", port))
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: sockets[0].close())
    told: list[str] = []
    serve(
        Inspector(open_bundle(dark_bundle(tmp_path / "bundle"))),
        ServiceOptions(host=host, allow_remote=True, links=5),
        open_browser=False,
        announce=told.append,
    )
    assert len(set(told)) == len(told) == 5
    assert all(link.startswith(f"http://{host}:") for link in told)


def test_a_cell_is_no_formula_to_a_spreadsheet(tmp_path: Path) -> None:
    target = {"id": 1, "name": "=1+2", "colour": "#D55E00"}
    bundle = open_bundle(dark_bundle(tmp_path / "bundle", target=target))
    inspector = Inspector(bundle)
    (tmp_path / "p.png").write_bytes(png(wall()))
    found = inspector.inspect(tmp_path / "p.png")
    content = inspector.result(found["id"], "table")
    inspector.close()
    assert content is not None
    (row,) = csv.DictReader(io.StringIO(content[0].decode()))
    assert row["class"] == "'=1+2"


def test_the_model_is_described(live: Live) -> None:
    about = json.loads(live.ask("GET", "/api/model")[1])
    assert (about["target"], about["tile_px"], about["cell_px"]) == ("crack", 32, 4)
    assert about["sha256"] == live.inspector.bundle.sha256


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no photo came"),
        (b"hello", "the photo cannot be used: it is not a readable JPEG"),
        (b"<html>", "it is a web page"),
        (png(wall())[:200], "the photo cannot be used: it is damaged"),
    ],
)
def test_a_bad_photo_is_one_clear_line(live: Live, body: bytes, reason: str) -> None:
    status, found = live.post(body)
    assert status in (400, 422)
    assert reason in found["error"]
    assert "\n" not in found["error"]
    assert "/" not in found["error"]
    assert not [p for p in live.inspector._folder.iterdir() if p.name.startswith("photo")]


def test_limits_of_size_hold(tmp_path: Path) -> None:
    live = Live(tmp_path, Limits(max_pixels=5000, max_bytes=2000))
    try:
        status, found = live.post(png(wall()))
        assert (status, "more than 5000" in found["error"]) == (422, True)
        status, found = live.post(b"x" * 2001)
        assert (status, "larger than 0.002 MB" in found["error"]) == (413, True)
        # One that does not say how long it is.
        line = live.slow(
            b"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Finicky: 1\r\n"
            b"Cookie: finicky_%d=%s\r\nTransfer-Encoding: chunked\r\n\r\n"
            % (live.port, live.port, str(live.cookie).encode())
        )
        line.sendall(b"bb8\r\n" + b"x" * 3000 + b"\r\n0\r\n\r\n")
        assert b" 413 " in line.recv(4096).split(b"\r\n")[0]
        line.close()
    finally:
        live.close()


def test_slow_and_stuck_photos_do_not_hold_the_others_up(tmp_path: Path) -> None:
    live = Live(tmp_path, Limits(upload_s=1, waiting=3))
    try:
        start = (
            b"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Finicky: 1\r\n"
            b"Cookie: finicky_%d=%s\r\nContent-Length: 500\r\n\r\nabc"
            % (live.port, live.port, str(live.cookie).encode())
        )
        lines = [live.slow(start) for _ in range(2)]
        time.sleep(0.2)
        assert live.post(png(wall()))[0] == 200  # one place is free
        lines.append(live.slow(start))
        time.sleep(0.2)
        status, said, headers = live.ask("POST", "/api/photos", body=png(wall()))
        assert (status, b"3 photos are waiting already" in said) == (503, True)
        assert headers["retry-after"] == "2"
        answers = [line.recv(4096) for line in lines]
        assert all(b" 408 " in answer.split(b"\r\n")[0] for answer in answers)
        for line in lines:
            line.close()
        assert live.post(png(wall()))[0] == 200
    finally:
        live.close()


def test_an_inspection_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    live = Live(tmp_path, Limits(inspect_s=1e-9))
    try:
        status, said, headers = live.ask("POST", "/api/photos", body=png(wall()))
        assert (status, b"was not inspected within" in said) == (503, True)
        assert "retry-after" not in headers  # it would take as long again
    finally:
        live.close()


def test_only_the_newest_results_are_kept(tmp_path: Path) -> None:
    live = Live(tmp_path, Limits(kept=2))
    try:
        ids = [live.post(png(wall()))[1]["id"] for _ in range(3)]
        there = [live.ask("GET", f"/api/results/{name}/overlay")[0] for name in ids]
        assert there == [404, 200, 200]
        folder = live.inspector._folder
        assert len(list(folder.iterdir())) == 2
        assert folder.stat().st_mode & 0o077 == 0 or os.name == "nt"
    finally:
        live.close()
    assert not folder.exists()


def test_two_clients_at_once_get_their_own_results(live: Live) -> None:
    small, large = png(wall()), png(wall(width=640, height=480))
    found: dict[int, set[tuple[int, int, int]]] = {0: set(), 1: set()}

    def client(number: int, body: bytes) -> None:
        for _ in range(8):
            status, value = live.post(body)
            found[number].add((status, value["width"], value["n_defects"]))

    clients = [threading.Thread(target=client, args=(k, b)) for k, b in enumerate((small, large))]
    for one in clients:
        one.start()
    for one in clients:
        one.join(60)
    assert found == {0: {(200, 100, 1)}, 1: {(200, 640, 1)}}


def test_a_scale_gives_millimetres(tmp_path: Path) -> None:
    live = Live(tmp_path, mm_per_px=0.5)
    try:
        (defect,) = live.post(png(wall()))[1]["defects"]
        assert defect["length_mm"] == pytest.approx(defect["length_px"] / 2, abs=0.05)
    finally:
        live.close()


@pytest.mark.slow
@pytest.mark.real_data
def test_hostile_files_are_one_line_each(live: Live, real_data: Path) -> None:
    files = [p for p in sorted((real_data / "hostile_images").rglob("*")) if p.is_file()]
    counts = {200: 0, 422: 0, 400: 0}
    for path in files[::4]:
        began = time.monotonic()
        status, found = live.post(path.read_bytes())
        assert time.monotonic() - began < 10, path
        counts[status] += 1
        if status != 200:
            assert "\n" not in found["error"], path
            assert "finicky-serve" not in found["error"], path
    assert counts[200] > 20
    assert counts[422] > 20
    assert live.post(png(wall()))[0] == 200


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_the_command_prints_links_and_stops_clean(tmp_path: Path) -> None:
    bundle = dark_bundle(tmp_path / "bundle")
    code = "from finicky.cli import main; main()"
    call = [sys.executable, "-c", code, "serve", str(bundle), "--no-browser"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        links = [child.stdout.readline().strip() for _ in range(2)]
        assert all(link.startswith("http://127.0.0.1:") for link in links)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        page = opener.open(links[0], timeout=20).read()
        assert b"Drop photos here" in page
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert child.returncode == 0
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "stopped; no photos and no results were kept"
    assert not list(tmp_path.glob("finicky-*"))


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    bundle = dark_bundle(tmp_path / "bundle")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code = "from finicky.cli import main; main()"
        call = [sys.executable, "-c", code, "serve", str(bundle), "--no-browser", "--port", port]
        done = subprocess.run(call, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"error: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
