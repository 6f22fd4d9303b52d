"""A page with the labeler open in a real Chromium, and hands on it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from labeler_helpers import Server, stored_ids

NAME = "photo 0.png"
VIEWPORT = {"width": 1366, "height": 768}


class Bench:
    """A page with the labeler open, and hands on it."""

    def __init__(
        self,
        browser: Any,
        server: Server,
        *,
        has_touch: bool = False,
        link: str = "",
        clock: bool = False,
    ) -> None:
        self.server = server
        self.context = browser.new_context(viewport=VIEWPORT, has_touch=has_touch)
        if clock:
            self.context.clock.install()
        self.errors: list[str] = []
        self.page = self.tab(link or server.start())

    def close(self) -> None:
        """Close the browser's window; nothing may have gone wrong in it."""
        self.context.close()
        assert self.errors == []

    def tab(self, link: str) -> Any:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(link)
        page.wait_for_selector('body[data-ready="1"]')
        return page

    def restart(self) -> None:
        self.context.request.get(self.server.start())  # as the browser would open the new link

    def at(self, x: float, y: float, page: Any = None) -> tuple[float, float]:
        """Where the centre of a photo's pixel is on the page."""
        page = page or self.page
        view = page.evaluate("({x: labeler.view.x, y: labeler.view.y, s: labeler.view.scale})")
        box = page.locator("#stage").bounding_box()
        return (
            box["x"] + view["x"] + (x + 0.5) * view["s"],
            box["y"] + view["y"] + (y + 0.5) * view["s"],
        )

    def drag(self, *points: tuple[float, float], page: Any = None) -> None:
        page = page or self.page
        places = [self.at(*point, page=page) for point in points]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=4)
        page.mouse.up()

    def thin(self, page: Any = None) -> None:
        """Take the brush of one pixel."""
        (page or self.page).keyboard.press("b")
        (page or self.page).evaluate("labeler.panel.setSize(1)")

    def saved(self, page: Any = None) -> None:
        self.until("labeler.unsaved === 0 && !labeler.sheet.saver.sending", page)

    def until(self, condition: str, page: Any = None) -> None:
        """Wait for a condition in the page (Playwright's own way needs eval, which CSP forbids)."""
        end = time.monotonic() + 60  # CI machines may be busy
        while not (page or self.page).evaluate(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never became true: {condition}"
            time.sleep(0.02)

    def shown(self, page: Any = None) -> np.ndarray:
        """The mask as the page has it."""
        page = page or self.page
        flat = page.evaluate("Array.from(labeler.sheet.raster.data)")
        width = page.evaluate("labeler.sheet.raster.width")
        return np.array(flat, np.uint8).reshape(-1, width)

    def path(self, photo: str = NAME) -> Path:
        """The photo's mask file."""
        return self.server.root / "masks" / f"{photo}.png"

    def stored(self, photo: str = NAME) -> np.ndarray:
        return stored_ids(self.server.root, photo)
