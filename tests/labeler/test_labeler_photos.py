"""Photos as folders really hold them, in a real Chromium: damaged ones, ones in folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labeler_bench import Bench
from labeler_helpers import Server, make_project
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose second photo has a good header and no pixels, and whose third is empty."""
    root = tmp_path / "mosty świat"
    make_project(root, photos=4)
    noise = np.random.default_rng(0).integers(0, 255, (120, 200, 3)).astype(np.uint8)
    (root / "photos" / "photo 1.png").unlink()
    Image.fromarray(noise).save(root / "photos" / "photo 1.jpg")
    cut = root / "photos" / "photo 1.jpg"
    cut.write_bytes(cut.read_bytes()[:3000])
    (root / "photos" / "photo 2.png").write_bytes(b"")
    return root


def _film(bench: Bench) -> list[str]:
    return bench.page.locator("#film .state").all_inner_texts()


def test_the_keys_step_over_photos_that_cannot_be_read(chromium: Any, folder: Path) -> None:
    (folder / "photos" / "photo 1.jpg").unlink()
    server = Server(folder)
    bench = Bench(chromium, server)
    bench.page.keyboard.press("d")
    bench.until("labeler.index === 2")
    assert bench.page.locator("#photo-name").inner_text() == "photo 3.png"
    bench.page.keyboard.press("d")
    assert "last photo" in bench.page.locator("#toast").inner_text()
    bench.page.keyboard.press("a")
    bench.until("labeler.index === 0")
    assert bench.page.locator("#progress-text").inner_text() == "0 of 2 finished"
    bench.close()
    server.kill()


def test_a_photo_that_turns_out_damaged_is_told_and_not_painted_on(
    chromium: Any, folder: Path
) -> None:
    server = Server(folder)
    bench = Bench(chromium, server)
    bench.page.evaluate("labeler.open(1)")
    bench.until("labeler.sheet.locked")
    toast = bench.page.locator("#toast").inner_text()
    assert "photos/photo 1.jpg" in toast
    assert "damaged" in toast
    assert str(folder) not in toast  # no paths of this computer
    assert "unreadable" in _film(bench)[1]
    bench.thin()
    bench.drag((10, 20), (60, 20))
    assert "photo cannot be read" in bench.page.locator("#hint").inner_text()
    assert not bench.path("photo 1.jpg").exists()
    bench.close()
    server.kill()


def test_a_project_without_a_readable_photo_says_so(chromium: Any, folder: Path) -> None:
    for name in ("photo 0.png", "photo 3.png"):
        (folder / "photos" / name).write_bytes(b"no photo")
    (folder / "photos" / "photo 1.jpg").unlink()
    server = Server(folder)
    bench = Bench(chromium, server)
    assert "cannot read photos/photo 0.png" in bench.page.locator("#toast").inner_text()
    for key in ("+", "b", "1", "Control+z", "Control+Enter", "t", "p", "d", "Shift+F", "Enter"):
        bench.page.keyboard.press(key)
    bench.page.mouse.wheel(0, 100)
    bench.close()
    server.kill()


def test_photos_in_folders_are_told_apart_by_their_names(chromium: Any, folder: Path) -> None:
    deep = folder / "photos" / "Łódź, most #3 (50%)" / "pier a+b&c=d;e"
    deep.mkdir(parents=True)
    (folder / "photos" / "photo 0.png").rename(deep / "crack 🌉 裂缝?.png")
    server = Server(folder)
    bench = Bench(chromium, server)
    key = bench.page.evaluate("labeler.photos.at(-1).key")
    bench.page.evaluate("labeler.open(labeler.photos.length - 1)")
    bench.until("labeler.index === labeler.photos.length - 1")
    assert bench.page.locator("#photo-name").inner_text() == "crack 🌉 裂缝?.png"
    assert bench.page.locator("#photo-name").get_attribute("title") == key
    assert bench.page.locator("#film .label").last.inner_text() == "crack 🌉 裂缝?.png"
    bench.thin()
    bench.drag((10, 20), (60, 20))
    bench.saved()
    assert bench.stored(key).sum() == 51
    bench.close()
    server.kill()


def test_a_photo_too_large_for_a_threshold_says_what_to_do(chromium: Any, folder: Path) -> None:
    Image.new("L", (5000, 3000), 128).save(folder / "photos" / "a.png")
    server = Server(folder)
    bench = Bench(chromium, server)
    bench.page.keyboard.press("t")
    bench.page.wait_for_selector('#hint:has-text("zoom in first. Then press T again")')
    bench.page.evaluate("labeler.view.zoom(1 / labeler.view.scale)")
    bench.page.keyboard.press("t")
    bench.until("labeler.assist.candidates")
    assert "Enter: region by region" in bench.page.locator("#hint").inner_text()
    bench.close()
    server.kill()


def test_the_shadows_of_coarse_asphalt_can_be_left_out(chromium: Any, folder: Path) -> None:
    """Stones and shadows differ by more than the 40 grey levels at which the scale once began."""
    stones = np.random.default_rng(0).integers(0, 2, (60, 100)) * 120
    stones[::12, ::10] = -60  # the deepest shadows
    grey = np.kron(stones + 100, np.ones((5, 5))).astype(np.uint8)
    Image.fromarray(grey).save(folder / "photos" / "a.png")
    server = Server(folder)
    bench = Bench(chromium, server)
    bench.page.keyboard.press("t")
    bench.until("labeler.assist.candidates")
    assert bench.page.evaluate("labeler.assist.candidates.count") > 0.3 * grey.size
    for _ in range(4):
        bench.page.keyboard.press("[")
    assert 0 < bench.page.evaluate("labeler.assist.candidates.count") < 0.03 * grey.size
    bench.close()
    server.kill()


def test_no_button_leaves_the_panel_of_a_narrow_tablet(chromium: Any, folder: Path) -> None:
    server = Server(folder)
    bench = Bench(chromium, server)
    bench.page.set_viewport_size({"width": 820, "height": 1180})
    bench.page.keyboard.press("4")  # "background", the longest name
    bench.page.keyboard.press("t")
    bench.until("labeler.assist.candidates")
    cut = """[...document.querySelectorAll("header button, #tools button, aside button")].filter(
      (one) => one.getBoundingClientRect().right > innerWidth || one.scrollWidth > one.clientWidth
    ).map((one) => one.id || one.textContent)"""
    assert bench.page.evaluate(cut) == []
    bench.close()
    server.kill()
