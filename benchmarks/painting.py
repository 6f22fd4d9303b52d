"""How long one pointer event takes on a large photo, in a real Chromium.

    python benchmarks/painting.py [--width 11585 --height 8640] [--chromium /usr/bin/chromium]

Makes a photo of noise (100 megapixels by default), serves it, and scribbles with brushes of 3, 40
and 200 px, with the whole photo in sight and at one to one. Printed are the milliseconds that the
page's own code takes for an event and for drawing a frame: median, 95th percentile and maximum;
and how long it took until the server had confirmed the stroke.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WATCH = """() => {
  window.events = []; window.frames = [];
  const stage = document.getElementById("stage");
  let began = 0;
  stage.addEventListener("pointermove", () => (began = performance.now()), true);
  stage.addEventListener("pointermove", () => events.push(performance.now() - began));
  const draw = labeler.view.draw.bind(labeler.view);
  labeler.view.draw = () => {
    const began = performance.now();
    draw();
    frames.push(performance.now() - began);
  };
}"""
TAKE = """() => {
  const taken = [events, frames];
  window.events = [];
  window.frames = [];
  return taken;
}"""


def main() -> None:
    """Measure and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=11585)
    parser.add_argument("--height", type=int, default=8640)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _make_photo(Path(folder), arguments.width, arguments.height)
        program = "from finicky.cli import main; main()"
        command = [sys.executable, "-c", program, "label", folder, "--no-browser"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                _measure(server.stdout.readline().strip(), arguments.chromium)
            finally:
                server.terminate()


def _make_photo(folder: Path, width: int, height: int) -> None:
    (folder / "photos").mkdir()
    (folder / "masks").mkdir()
    part = np.random.default_rng(0).integers(90, 160, (512, 512, 3)).astype(np.uint8)
    photo = np.tile(part, (height // 512 + 1, width // 512 + 1, 1))[:height, :width]
    Image.fromarray(np.ascontiguousarray(photo)).save(folder / "photos" / "large.jpg", quality=80)


def _measure(link: str, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(link)
        page.wait_for_selector('body[data-ready="1"]', timeout=60_000)
        page.evaluate(WATCH)
        for size in (3, 40, 200):
            page.evaluate(f"labeler.panel.setSize({size})")
            for sight in ("fit", "one to one"):
                zoom = "labeler.view.fit()"
                if sight != "fit":
                    zoom = "labeler.view.zoom(1 / (labeler.view.scale * labeler.view.ratio))"
                page.evaluate(zoom)
                page.wait_for_timeout(3000)
                page.evaluate(TAKE)
                saved = _scribble(page)
                events, frames = page.evaluate(TAKE)
                row = {"brush_px": size, "sight": sight, "saved_s": saved}
                print(json.dumps({**row, **_told("event", events), **_told("frame", frames)}))
        browser.close()


def _scribble(page: Any) -> float:
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2 - 300, box["y"] + box["height"] / 2 - 100
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(x + 10 * step, y + (step % 7) * 20)
    page.mouse.up()
    began = time.monotonic()
    while page.evaluate("labeler.unsaved > 0 || labeler.sheet.saver.sending"):
        time.sleep(0.05)
    return round(time.monotonic() - began, 2)


def _told(name: str, values: list[float]) -> dict[str, float]:
    low, high, most = np.percentile(values, [50, 95, 100])
    return {
        f"{name}_{k}_ms": round(float(v), 2)
        for k, v in zip(("p50", "p95", "max"), (low, high, most), strict=True)
    }


if __name__ == "__main__":
    main()
