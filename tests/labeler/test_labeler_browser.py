"""The labeler in a real Chromium: pointer, keyboard, reload, two tabs, a killed server."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labeler_bench import VIEWPORT, Bench
from labeler_helpers import Server, make_project
from PIL import Image

from finicky.labeler import MaskStore, patches
from finicky.labeler.states import States
from finicky.labeler.store import Author

NAME = "photo 0.png"


def test_a_stroke_of_one_pixel_is_one_pixel_wide(bench: Bench) -> None:
    bench.thin()
    bench.drag((10, 20), (60, 20))
    bench.saved()
    expected = np.zeros((120, 200), np.uint8)
    expected[20, 10:61] = 1
    np.testing.assert_array_equal(bench.stored(), expected)


def test_a_photo_is_labelled_by_keyboard_and_pointer(bench: Bench) -> None:
    page = bench.page
    bench.thin()
    bench.drag((10, 5), (30, 5))
    page.keyboard.press("2")
    page.keyboard.press("r")
    bench.drag((110, 10), (119, 14))  # 10 x 5 px of pore
    page.keyboard.press("3")
    page.keyboard.press("l")
    for corner in ((150, 40), (169.9, 40), (169.9, 59.9), (150, 59.9)):
        page.mouse.click(*bench.at(corner[0] - 0.5, corner[1] - 0.5))
    page.keyboard.press("Enter")
    page.keyboard.press("4")
    page.keyboard.press("f")
    page.mouse.click(*bench.at(160, 50))  # the lasso's area becomes background
    page.keyboard.press("e")
    page.evaluate("labeler.panel.setSize(1)")
    bench.drag((20, 5), (22, 5))
    page.keyboard.press("n")
    page.keyboard.type("joint at the left <b>")
    page.keyboard.press("Control+Enter")
    bench.until("labeler.index === 1")
    ids = bench.stored()
    assert (ids == 1).sum() == 21 - 3
    assert (ids == 2).sum() == 50
    assert (ids == 3).sum() == 0
    assert (ids == 4).sum() == 400
    state = (bench.server.root / "state" / "photos" / f"{NAME}.json").read_text("utf-8")
    assert '"status": "done"' in state
    assert "joint at the left <b>" in state


def test_undo_and_redo_are_saved_too(bench: Bench) -> None:
    bench.thin()
    bench.drag((10, 5), (30, 5))
    bench.drag((10, 9), (30, 9))
    bench.page.keyboard.press("Control+z")
    bench.saved()
    assert bench.stored().sum() == 21
    bench.page.keyboard.press("Control+Shift+Z")
    bench.saved()
    assert bench.stored().sum() == 42


def test_a_hundred_strokes_can_be_undone(bench: Bench) -> None:
    bench.page.evaluate(
        "for (let i = 0; i < 100; i++) labeler.fillRuns((emit) => emit(i, i, i + 5))"
    )
    bench.page.evaluate("for (let i = 0; i < 100; i++) labeler.undo()")
    bench.saved()
    assert not bench.stored().any()


@pytest.mark.parametrize(("value", "least", "most"), [(80, 500, 2000), (184, 8000, 16000)])
def test_thresholded_pixels_are_saved_exactly(
    bench: Bench, value: int, least: int, most: int
) -> None:
    """A closed loop stays a loop, a net of random pixels stays that net: nothing is filled."""
    page = bench.page
    page.keyboard.press("t")
    bench.until("labeler.assist.candidates")
    page.evaluate("labeler.assist.start('global')")
    bench.until("labeler.assist.source === 'global' && labeler.assist.candidates")
    page.evaluate("labeler.assist.setSmallest(1)")
    page.evaluate(f"labeler.assist.nudge({value - 20} - labeler.assist.cuts.global)")
    for key in ("]", "]", "=", "-"):
        page.keyboard.press(key)
    page.keyboard.press("Shift+Enter")
    bench.saved()
    grey = np.asarray(Image.open(bench.server.root / "photos" / NAME).convert("L"))
    expected = grey <= value
    assert least < expected.sum() < most
    np.testing.assert_array_equal(bench.stored() == 1, expected)


def test_local_threshold_equals_its_definition(bench: Bench) -> None:
    page = bench.page
    page.keyboard.press("t")
    bench.until("labeler.assist.candidates")
    page.evaluate("labeler.assist.setSmallest(1)")
    page.evaluate("labeler.assist.nudge(84 - labeler.assist.cuts.local)")
    page.keyboard.press("Shift+Enter")
    bench.saved()
    grey = np.asarray(Image.open(bench.server.root / "photos" / NAME).convert("L")).astype(int)
    mean = np.zeros_like(grey)
    for y in range(120):
        for x in range(200):
            mean[y, x] = int(grey[max(0, y - 25) : y + 26, max(0, x - 25) : x + 26].mean())
    np.testing.assert_array_equal(bench.stored() == 1, mean - grey >= 100 - 84)


def test_regions_are_answered_one_by_one(bench: Bench) -> None:
    page = bench.page
    page.keyboard.press("t")
    bench.until("labeler.assist.candidates")
    page.keyboard.press("Enter")
    sizes = page.evaluate("labeler.assist.sorting.regions.map((r) => r.size)")
    assert len(sizes) == 2
    page.keyboard.press("1")  # the loop
    page.keyboard.press("Backspace")
    page.keyboard.press("2")
    page.keyboard.press("x")  # the dot: skipped
    bench.saved()
    ids = bench.stored()
    assert (ids == 2).sum() == sizes[0]
    assert set(np.unique(ids)) == {0, 2}
    assert ids[60, 70] == 0  # inside the loop


def test_covered_noise_is_not_marked(bench: Bench) -> None:
    page = bench.page
    page.keyboard.press("t")
    bench.until("labeler.assist.candidates")
    bench.drag((0, 25), (120, 95))
    page.keyboard.press("Shift+Enter")
    bench.saved()
    ids = bench.stored()
    assert not ids[25:96, :121].any()
    assert ids[12, 155] == 1


def test_the_wand_takes_the_connected_area(bench: Bench) -> None:
    page = bench.page
    page.keyboard.press("w")
    page.mouse.click(*bench.at(155, 13))
    bench.until("labeler.sheet.history.length === 1")
    bench.saved()
    expected = np.zeros((120, 200), bool)
    expected[10:16, 150:160] = True
    np.testing.assert_array_equal(bench.stored() == 1, expected)


def test_one_finger_paints_and_two_fingers_zoom(chromium: Any, served: Server) -> None:
    bench = Bench(chromium, served, has_touch=True)
    bench.thin()
    touch = bench.context.new_cdp_session(bench.page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        places = [bench.at(*point) for point in points]
        fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    send("touchStart", (10, 5))
    send("touchMove", (30, 5))
    send("touchEnd")
    bench.saved()
    assert bench.stored().sum() == 21
    before = bench.page.evaluate("labeler.view.scale")
    send("touchStart", (50, 60), (60, 60))
    send("touchMove", (45, 60), (65, 60))
    send("touchEnd")
    assert bench.page.evaluate("labeler.view.scale") > 1.3 * before
    bench.saved()
    assert bench.stored().sum() == 21
    bench.context.close()


def test_hiding_the_overlay_saves_nothing(bench: Bench) -> None:
    bench.thin()
    bench.drag((10, 5), (30, 5))
    bench.saved()
    before = bench.page.evaluate("labeler.sheet.saver.revision")
    bench.page.keyboard.down("q")
    assert bench.page.locator("#mask-canvas").evaluate("e => e.style.visibility") == "hidden"
    bench.page.keyboard.up("q")
    bench.page.evaluate("labeler.panel.setOpacity(-70)")
    bench.page.keyboard.press("d")
    bench.until("labeler.index === 1")
    bench.page.keyboard.press("a")
    bench.until("labeler.index === 0")
    assert bench.page.evaluate("labeler.sheet.saver.revision") == before
    assert bench.stored().sum() == 21


def test_a_reload_shows_what_was_drawn(bench: Bench) -> None:
    bench.thin()
    bench.drag((10, 5), (30, 5))
    bench.saved()
    bench.page.reload()
    bench.page.wait_for_selector('body[data-ready="1"]')
    assert bench.shown().sum() == 21


def test_a_reload_keeps_what_can_be_undone_and_redone(bench: Bench) -> None:
    bench.thin()
    for y in (5, 9, 13):
        bench.drag((10, y), (30, y))
    bench.page.keyboard.press("Control+z")
    _reload(bench)
    bench.page.keyboard.press("Control+Shift+Z")
    assert bench.shown().sum() == 63
    _reload(bench)
    for left in (42, 21, 0):
        bench.page.keyboard.press("Control+z")
        assert bench.shown().sum() == left
    bench.saved()
    assert not bench.stored().any()


def test_strokes_that_wait_for_a_server_can_be_undone_after_a_reload(bench: Bench) -> None:
    bench.thin()
    bench.drag((10, 5), (30, 5))
    bench.saved()
    bench.server.kill()
    bench.drag((10, 9), (30, 9))
    bench.page.wait_for_selector('#save:has-text("1 stroke kept in this browser")')
    bench.page.close()
    bench.page = bench.tab(bench.server.start())
    for left in (21, 0):
        bench.page.keyboard.press("Control+z")
        assert bench.shown().sum() == left


def test_nothing_is_undone_that_somebody_else_changed(bench: Bench) -> None:
    bench.thin()
    bench.drag((10, 5), (30, 5))
    bench.saved()
    path = bench.server.root / "masks" / f"{NAME}.png"
    with Image.open(path) as image:
        ids = np.array(image)
    ids[50, 10:20] = 2
    Image.fromarray(ids).save(path)  # by another program
    _reload(bench)
    bench.page.keyboard.press("Control+z")
    assert bench.shown()[5, 10:31].all()
    assert (bench.shown()[50, 10:20] == 2).all()


def _reload(bench: Bench) -> None:
    bench.saved()
    bench.page.evaluate("labeler.sheet.past.work")
    bench.page.reload()
    bench.page.wait_for_selector('body[data-ready="1"]')


def test_strokes_drawn_without_a_server_survive_closing_the_tab(bench: Bench) -> None:
    bench.thin()
    bench.drag((10, 5), (30, 5))
    bench.saved()
    bench.server.kill()
    bench.drag((10, 9), (30, 9))
    bench.drag((10, 13), (30, 13))
    bench.page.wait_for_selector('#save:has-text("2 strokes kept in this browser")')
    bench.page.close()
    bench.page = bench.tab(bench.server.start())
    bench.saved()
    assert bench.stored().sum() == 63
    assert bench.shown().sum() == 63


def test_two_tabs_show_the_conflict_and_keep_both(bench: Bench) -> None:
    first = bench.page
    second = bench.context.new_page()
    second.goto(f"http://127.0.0.1:{bench.server.port}/")
    second.wait_for_selector('body[data-ready="1"]')
    for page in (first, second):
        bench.thin(page)
        page.evaluate("labeler.poll = () => {}")  # neither has looked yet
    bench.drag((10, 5), (30, 5), page=first)
    bench.saved(first)
    bench.drag((10, 9), (30, 9), page=second)
    second.wait_for_selector("#question[open]")
    kept = list((bench.server.root / "state" / "conflicts").glob("*.png"))
    assert len(kept) == 1
    with Image.open(kept[0]) as image:
        mine = np.array(image)
    assert mine[9, 10:31].all()
    assert bench.stored()[5, 10:31].all()
    assert not bench.stored()[9].any()
    second.click('[data-answer="merge"]')
    bench.until("labeler.sheet.raster.at(15, 5) && labeler.sheet.raster.at(15, 9)", second)
    bench.saved(second)
    assert bench.stored().sum() == 42
    second.close()


def test_a_tab_takes_over_what_another_one_saved(bench: Bench) -> None:
    second = bench.context.new_page()
    second.goto(f"http://127.0.0.1:{bench.server.port}/")
    second.wait_for_selector('body[data-ready="1"]')
    bench.thin(second)
    bench.drag((10, 9), (30, 9), page=second)
    bench.saved(second)
    bench.page.evaluate("labeler.poll()")
    bench.until("labeler.sheet.raster.at(15, 9) === 1")
    second.close()


def test_a_mask_that_cannot_be_read_is_never_written_over(bench: Bench) -> None:
    path = bench.server.root / "masks" / "photo 1.png.png"
    Image.fromarray(np.full((12, 20), 1, np.uint8)).save(path)
    before = path.read_bytes()
    bench.page.keyboard.press("d")
    bench.until("labeler.index === 1")
    bench.thin()
    bench.drag((10, 5), (30, 5))
    assert "cannot be read" in bench.page.locator("#hint").inner_text()
    assert path.read_bytes() == before


def test_names_and_notes_are_shown_as_text(chromium: Any, served: Server) -> None:
    hostile = "<img src=x onerror=alert(1)>.png"
    photo = served.root / "photos" / NAME
    (served.root / "photos" / hostile.replace("/", "")).write_bytes(photo.read_bytes())
    bench = Bench(chromium, served)
    ran: list[str] = []
    bench.page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
    bench.page.evaluate("labeler.open(0)")
    bench.until("labeler.index === 0")
    assert bench.page.locator("#photo-name").inner_text() == hostile
    assert bench.page.locator("img[src='x']").count() == 0
    assert ran == []
    bench.context.close()


def test_nothing_is_fetched_from_elsewhere(chromium: Any, served: Server) -> None:
    context = chromium.new_context(viewport=VIEWPORT)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.start())
    page.wait_for_selector('body[data-ready="1"]')
    home = (f"http://127.0.0.1:{served.port}/", "blob:", "data:")
    assert [url for url in asked if not url.startswith(home)] == []
    context.close()


def test_a_disk_that_refuses_is_told_and_strokes_wait_for_it(bench: Bench) -> None:
    bench.thin()
    bench.drag((10, 5), (30, 5))
    bench.saved()
    masks = bench.server.root / "masks"
    masks.rename(masks.with_name("away"))
    masks.write_text("in the way")
    bench.drag((10, 9), (30, 9))
    bench.page.wait_for_selector('#save:has-text("1 stroke kept in this browser")')
    masks.unlink()
    masks.with_name("away").rename(masks)
    bench.saved()
    assert bench.stored().sum() == 42


def test_a_proposal_is_accepted_with_a_key(chromium: Any, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    place = make_project(tmp_path / "p", photos=5)
    store, states = MaskStore(place, place.scan()), States(place)
    loop = np.zeros((120, 200), np.uint8)
    loop[30:90, 40:43] = loop[30:90, 97:100] = loop[30:33, 40:100] = loop[87:90, 40:100] = 1
    for photo in place.scan()[:3]:
        store.save(photo, patches.encode(loop), Author("session-a", 1, ""))
        states.update(photo, status="done")
    bench = Bench(chromium, Server(place.root))
    bench.page.keyboard.press("p")
    bench.until("labeler.assist.source === 'proposal' && labeler.assist.candidates")
    bench.page.keyboard.press("u")
    bench.until("labeler.assist.doubt.shown")
    bench.drag((150, 12), (159, 12))  # a loose stroke where there is next to nothing
    bench.page.keyboard.press("Enter")
    bench.saved()
    found, wanted = bench.stored("photo 3.png") == 1, loop == 1
    assert (found & wanted).sum() / (found | wanted).sum() > 0.8
    bench.page.keyboard.press("Control+Enter")
    bench.until("labeler.index === 4")
    bench.context.close()
    bench.server.kill()


def _strokes_through_kills(bench: Bench, kills: int) -> None:
    rng = random.Random(7)
    bench.thin()
    expected = np.zeros((120, 200), np.uint8)
    for number in range(kills):
        y = 2 * number + 1
        killer = threading.Timer(rng.uniform(0, 0.12), bench.server.kill)
        killer.start()  # hits while drawing, while sending or while writing
        bench.drag((5, y), (5 + 3 * (number % 50) + 10, y))
        expected[y, 5 : 5 + 3 * (number % 50) + 11] = 1
        killer.join()
        bench.restart()
        if number % 3 == 0:
            bench.saved()
    bench.saved()
    np.testing.assert_array_equal(bench.shown(), expected)
    np.testing.assert_array_equal(bench.stored(), expected)
    assert not (bench.server.root / "state" / "conflicts").exists()


def test_no_stroke_is_lost_when_the_server_is_killed(bench: Bench) -> None:
    _strokes_through_kills(bench, 4)


@pytest.mark.slow
def test_no_stroke_is_lost_when_the_server_is_killed_fifty_times(bench: Bench) -> None:
    started = time.monotonic()
    _strokes_through_kills(bench, 50)
    assert time.monotonic() - started < 280


def test_the_crack_pen_follows_a_crack_from_click_to_click(chromium: Any, served: Server) -> None:
    rng = np.random.default_rng(3)
    grey = rng.integers(150, 190, (120, 200))
    x = np.arange(5, 195)
    y = (60 + 30 * np.sin(x / 25) + 4 * np.sin(x / 5)).astype(int)
    line = np.zeros((120, 200), bool)
    for step in (-1, 0, 1):
        line[y + step, x] = True
    grey[line] -= 70
    photo = Image.fromarray(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2))
    photo.save(served.root / "photos" / NAME)
    bench = Bench(chromium, served)
    bench.page.keyboard.press("k")
    for at in (0, 90, 189):
        bench.page.mouse.click(*bench.at(x[at] + 2, y[at] - 2))  # a little beside
        bench.until(f"labeler.tool.anchors.at(-1)?.[0] > {x[at] - 6}")
    bench.page.mouse.move(*bench.at(20, 100))
    bench.page.keyboard.press("Enter")
    bench.saved()
    found = bench.stored() == 1
    assert (found & line).sum() / (found | line).sum() > 0.6
    bench.page.keyboard.press("Control+z")
    bench.saved()
    half = bench.stored() == 1
    assert 0.3 * found.sum() < half.sum() < 0.7 * found.sum()
    bench.close()


def test_an_alligator_crack_is_saved_pixel_by_pixel(chromium: Any, served: Server) -> None:
    """Fifty closed cells with what lies inside them: thresholded, answered region by region."""
    rng = np.random.default_rng(4)
    seeds = rng.uniform((0, 0), (120, 200), (50, 2))
    y, x = np.mgrid[:120, :200]
    distance = np.sort(np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1]), axis=-1)
    net = distance[..., 1] - distance[..., 0] < 1.6
    specks = (distance[..., 0] < 1.2) & ~net
    grey = np.where(net | specks, 60, rng.integers(150, 200, net.shape)).astype(np.uint8)
    photo = Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    photo.save(served.root / "photos" / NAME)
    bench = Bench(chromium, served)
    page = bench.page
    page.evaluate("labeler.openThreshold('global')")
    bench.until("labeler.assist.source === 'global' && labeler.assist.candidates")
    page.evaluate("labeler.assist.setSmallest(1)")
    page.evaluate("labeler.assist.nudge(100 - labeler.assist.cuts.global)")
    page.keyboard.press("Enter")
    bench.until("labeler.assist.sorting")
    page.keyboard.press("1")  # the largest region: the net
    page.keyboard.press("2")  # whatever is next: a pore
    page.keyboard.press("Escape")
    bench.saved()
    from scipy import ndimage

    numbered, count = ndimage.label(grey < 100, np.ones((3, 3)))
    sizes = np.bincount(numbered.ravel())[1:]
    assert count > 20
    largest = numbered == 1 + sizes.argmax()
    assert ndimage.binary_fill_holes(largest).sum() > 3 * largest.sum()  # cells that stay open
    np.testing.assert_array_equal(bench.stored() == 1, largest)
    assert (bench.stored() == 2).sum() == np.sort(sizes)[-2]
    bench.close()


def test_a_crack_through_a_stain_is_two_regions(bench: Bench) -> None:
    """And a stray pixel of a third class goes with what it lies in."""
    found = bench.page.evaluate(
        """async () => {
          const { Candidates } = await import("/static/region.js");
          const box = { x: 5, y: 7, width: 20, height: 10 };
          const score = new Uint8Array(200), classes = new Uint8Array(200).fill(1);
          for (let x = 0; x < 20; x++) score[5 * 20 + x] = 255;
          for (let y = 2; y < 9; y++) {
            for (let i = y * 20 + 8; i < y * 20 + 14 && y !== 5; i++) {
              [score[i], classes[i]] = [255, 3];
            }
          }
          classes[3 * 20 + 9] = 2;
          const regions = new Candidates(box, score, 100, classes).find();
          return regions.map(({ value, size, x0, y0, x1, y1 }) => [value, size, x0, y0, x1, y1]);
        }"""
    )
    assert found == [[3, 36, 8, 2, 14, 9], [1, 20, 0, 5, 20, 6]]


def test_a_proposal_can_be_drawn_over(bench: Bench) -> None:
    """Alt+drag: what is proposed near the stroke goes, the stroke itself is what Enter marks."""
    page = bench.page
    _propose_rows(bench, 60)
    page.evaluate("labeler.panel.setSize(1)")
    page.keyboard.down("Alt")
    bench.drag((100, 63), (189, 63))
    page.keyboard.up("Alt")
    page.keyboard.press("Enter")
    bench.saved()
    ids = bench.stored()
    assert ids[60, 10:90].all()
    assert not ids[60, 100:190].any()
    assert ids[63, 101:189].all()
    assert ids.sum() < 100 + 3 * 90


def _propose_rows(bench: Bench, *rows: int) -> None:
    """Propose lines of 180 px, with a less sure rim of one pixel."""
    bench.page.evaluate(
        """async (rows) => {
          const { api } = await import("/static/api.js");
          const score = new Uint8Array(200 * 120), classes = new Uint8Array(score.length).fill(1);
          for (const y of rows) {
            for (const [by, sure] of [[-1, 60], [1, 60], [0, 255]]) {
              score.fill(sure, (y + by) * 200 + 10, (y + by) * 200 + 190);
            }
          }
          api.proposals = async () => ({ ready: true, text: "" });
          api.proposal = async () => ({ score, classes });
          labeler.propose();
        }""",
        list(rows),
    )
    bench.until("labeler.assist.candidates")


def test_a_click_takes_a_wrong_region_away_at_any_boldness(bench: Bench) -> None:
    page = bench.page
    _propose_rows(bench, 40, 60, 80)
    page.keyboard.down("Shift")
    page.mouse.click(*bench.at(100, 61))  # a little beside
    page.mouse.click(*bench.at(100, 20))  # nothing there
    page.keyboard.up("Shift")
    assert "no region here" in page.locator("#toast").inner_text()
    page.evaluate("labeler.assist.nudge(100)")  # bolder: the rims are candidates now
    page.keyboard.press("Enter")
    bench.saved()
    ids = bench.stored()
    assert not ids[55:66].any()
    assert ids[39:42, 10:190].all()
    assert ids[79:82, 10:190].all()
    assert ids.sum() == 2 * 3 * 180
