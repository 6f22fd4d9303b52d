"""Whether the labeler holds out: memory, open files and lost strokes over many requests.

A labeler of its own process is asked, over kept connections from several threads, for what a page
asks for: tiles, brightness, thumbnails, masks, versions; and it is sent strokes. Memory and open
files are read from /proc (Linux) all along; the slope is fitted to the second half, when every
cache has been filled. How long an answer took is told for each kind of request, as the client saw
it: the client shares the machine.

    python benchmarks/soak.py PHOTOS --requests 50000
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from finicky.labeler import patches

SIDE = 40  # of a stroke's square, in px
SETTLED = 0.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photos; the first 20 are copied")
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        (root / "photos").mkdir(parents=True)
        for path in sorted(arguments.photos.iterdir())[:20]:
            (root / "photos" / path.name).write_bytes(path.read_bytes())
        (root / "masks").mkdir()
        print(json.dumps(_soak(root, arguments.requests, arguments.threads)))


def _soak(root: Path, requests: int, threads: int) -> dict[str, float]:
    command = [sys.executable, "-c", "from finicky.cli import main; main()", "label", str(root)]
    server = subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        link = server.stdout.readline().strip()
        seen: list[tuple[float, float, int]] = []
        workers = [_Page(link, number, requests // threads) for number in range(threads)]
        workers[0].enter()
        for worker in workers:
            worker.cookie = workers[0].cookie
            worker.start()
        started = time.monotonic()
        while any(worker.is_alive() for worker in workers):
            seen.append((time.monotonic() - started, _memory(server.pid), _files(server.pid)))
            time.sleep(1)
        for worker in workers:
            worker.join()
        lost = sum(worker.lost(root) for worker in workers)
        return {**_figures(seen, workers), "lost_px": lost, **_latency(workers)}
    finally:
        server.kill()
        server.wait()


class _Page(threading.Thread):
    """One tab: it draws on a photo of its own and looks at all of them."""

    def __init__(self, link: str, number: int, requests: int) -> None:
        super().__init__()
        self.address, self._path = link.removeprefix("http://").split("/", 1)
        self.cookie = ""
        self.asked = self.failed = 0
        self.took: dict[str, list[float]] = defaultdict(list)  # ms of each request, by kind
        self._number, self._requests = number, requests
        self._connection = http.client.HTTPConnection(self.address, timeout=60)
        self._wanted: np.ndarray | None = None
        self._photo: dict = {}

    def enter(self) -> None:
        """Change the link for the cookie of all tabs."""
        self._connection.request("GET", f"/{self._path}")
        answer = self._connection.getresponse()
        answer.read()
        self.cookie = answer.headers["set-cookie"].split(";")[0]

    def run(self) -> None:
        """Ask and draw."""
        rng = np.random.default_rng(self._number)
        photos = json.loads(self._ask("GET", "/api/project"))["photos"]
        self._photo = photos[self._number % len(photos)]
        self._wanted = np.zeros((self._photo["height"], self._photo["width"]), np.uint8)
        version = ""
        while self.asked < self._requests:
            photo = photos[rng.integers(len(photos))]["id"]
            kind = rng.choice(("tile/0/0/0", "grey/0/0", "thumbnail", "mask", "version"))
            self._ask("GET", f"/api/photos/{photo}/{kind}")
            if rng.random() < 0.2:
                version = self._draw(rng, version)

    def _draw(self, rng: np.random.Generator, version: str) -> str:
        wanted = self._wanted
        assert wanted is not None
        y, x = (int(rng.integers(side - SIDE)) for side in wanted.shape)
        wanted[y : y + SIDE, x : x + SIDE] = value = int(rng.integers(5))
        runs = np.array([x, y, SIDE, SIDE, 1, (value << 24) | (SIDE * SIDE)], "<u4").tobytes()
        assert patches.decode(runs, width=10**6, height=10**6, allowed=frozenset(range(5)))
        headers = {
            "X-Finicky": "1",
            "X-Finicky-Session": f"soak-page-{self._number}",
            "X-Finicky-Seq": str(self.asked + 1),
            "X-Finicky-Base": version,
        }
        answer = self._ask("PUT", f"/api/photos/{self._photo['id']}/mask", runs, headers)
        return str(json.loads(answer).get("version", version))

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict | None = None
    ) -> bytes:
        began = time.perf_counter()
        self._connection.request(method, path, body, {"Cookie": self.cookie, **(headers or {})})
        answer = self._connection.getresponse()
        content = answer.read()
        kind = "stroke" if body else (path.split("/")[4:5] or ["project"])[0]
        self.took[kind].append(1000 * (time.perf_counter() - began))
        self.asked += 1
        self.failed += answer.status >= 400
        return content

    def lost(self, root: Path) -> int:
        """Pixels that are not stored as they were drawn."""
        with Image.open(root / "masks" / f"{self._photo['key']}.png") as image:
            return int((np.array(image) != self._wanted).sum())


def _memory(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _latency(pages: list[_Page]) -> dict[str, float]:
    """Median and 99th percentile of each kind of request, in ms."""
    found = {}
    for kind in sorted({kind for page in pages for kind in page.took}):
        took = np.concatenate([page.took[kind] for page in pages])
        found[f"{kind}_p50_ms"], found[f"{kind}_p99_ms"] = np.percentile(took, [50, 99]).round(1)
    return found


def _figures(seen: list[tuple[float, float, int]], pages: list[_Page]) -> dict[str, float]:
    asked = sum(page.asked for page in pages)
    seconds, memory, files = (np.array(column) for column in zip(*seen, strict=True))
    late = seconds >= SETTLED * seconds[-1]
    slope = np.polyfit(seconds[late], memory[late], 1)[0] if late.sum() > 2 else float("nan")
    return {
        "requests": asked,
        "failed": sum(page.failed for page in pages),
        "seconds": round(float(seconds[-1]), 1),
        "memory_mb_first": round(float(memory[0]), 1),
        "memory_mb_half": round(float(memory[late][0]), 1),
        "memory_mb_last": round(float(memory[-1]), 1),
        "slope_mb_per_hour": round(float(slope) * 3600, 1),
        "slope_mb_per_10000_requests": round(float(slope) * seconds[-1] / asked * 1e4, 2),
        "open_files_first": int(files[0]),
        "open_files_most": int(files.max()),
        "open_files_last": int(files[-1]),
    }


if __name__ == "__main__":
    main()
