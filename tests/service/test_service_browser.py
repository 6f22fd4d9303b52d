"""The page of `finicky serve` in a real Chromium: drop, look, keyboard, accents, a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_helpers import Live, png, wall

from finicky.service import Limits

NAME = "Most Świętokrzyski <b>filar</b>.png"


@pytest.fixture
def page(chromium: Any, tmp_path: Path) -> Iterator[Any]:
    """The page on a laptop's screen, opened by its link."""
    live = Live(tmp_path)
    opened = chromium.new_page(viewport={"width": 1366, "height": 768})
    opened.goto(live.link())
    yield opened
    opened.close()
    live.close()


def drop(page: Any, name: str, content: bytes, more: int = 0) -> None:
    """As if a file were dragged from a file manager onto the page; ``more`` zeros follow it."""
    transfer = page.evaluate_handle(
        """([name, bytes, more]) => {
          const made = new DataTransfer();
          made.items.add(new File([new Uint8Array(bytes), new Uint8Array(more)], name));
          return made;
        }""",
        [name, list(content), more],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def test_photos_are_dropped_seen_and_refused(page: Any) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.locator("#model", has_text="looks for crack").wait_for()
    drop(page, NAME, png(wall()))
    card = page.locator("article").first
    card.locator(".verdict.found").wait_for()
    assert card.locator("h2").inner_text() == NAME  # as text, not as markup
    assert card.locator(".verdict").inner_text() == "1 region with crack"
    assert "40 px" in card.locator("tbody tr").inner_text()
    picture = page.locator("article .picture img")
    page.wait_for_timeout(300)
    assert picture.evaluate("img => [img.naturalWidth, img.naturalHeight]") == [100, 70]
    drop(page, "zły.jpg", b"no photo")
    page.locator(".verdict.failed").wait_for()
    assert "cannot be used" in page.locator(".verdict.failed").inner_text()
    # By keyboard: the other views of the older photo.
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("2")
    assert picture.get_attribute("src").endswith("/map")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.evaluate(
        """() => document.getElementById("choose").addEventListener("click", (event) => {
          event.preventDefault();
          document.title = "asked for photos";
        })"""
    )
    page.keyboard.press("o")
    page.wait_for_timeout(300)
    assert page.title() == "asked for photos"
    for width, height in ((1366, 768), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert errors == []


def test_a_photo_that_comes_too_early_waits_for_its_turn(chromium: Any, tmp_path: Path) -> None:
    """Also one that is larger than what a connection holds when the server answers early."""
    live = Live(tmp_path, Limits(waiting=1, upload_s=3))
    page = chromium.new_page()
    try:
        page.goto(live.link())
        page.locator("#model", has_text="looks for crack").wait_for()
        held = live.slow(
            b"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Finicky: 1\r\n"
            b"Cookie: finicky_%d=%s\r\nContent-Length: 500\r\n\r\nabc"
            % (live.port, live.port, str(live.cookie).encode())
        )
        drop(page, "early.png", png(wall()), more=20_000_000)
        page.locator("#status", has_text="others are being looked at").wait_for()
        page.locator("article .verdict").wait_for(timeout=30_000)
        assert page.locator("article .verdict").inner_text() == "1 region with crack"
        held.close()
    finally:
        page.close()
        live.close()
