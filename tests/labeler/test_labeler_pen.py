"""A tablet with a pen, and two tabs that disagree, in a real Chromium."""

from __future__ import annotations

from typing import Any

import pytest
from labeler_bench import Bench
from labeler_helpers import Server


def test_a_pen_paints_its_button_erases_and_fingers_only_move(
    chromium: Any, served: Server
) -> None:
    bench = Bench(chromium, served, has_touch=True)
    bench.thin()
    tablet = bench.context.new_cdp_session(bench.page)

    def pen(kind: str, x: float, buttons: int, button: str = "none") -> None:
        px, py = bench.at(x, 20)
        event = {"type": kind, "x": px, "y": py, "buttons": buttons, "button": button}
        tablet.send("Input.dispatchMouseEvent", {**event, "pointerType": "pen", "clickCount": 1})

    def stroke(first: int, last: int, buttons: int, button: str) -> None:
        pen("mousePressed", first, buttons, button)
        for x in range(first, last + 1, 5):
            pen("mouseMoved", x, buttons)
        pen("mouseReleased", last, 0, button)
        bench.saved()

    stroke(10, 60, 1, "left")
    assert bench.stored()[20].sum() == bench.stored().sum() == 51
    stroke(40, 60, 2, "right")
    assert bench.stored().sum() == 30
    before = bench.page.evaluate("labeler.view.x")
    for kind, x in (("touchStart", 100), ("touchMove", 120), ("touchEnd", None)):
        points = [] if x is None else [dict(zip("xy", bench.at(x, 60), strict=True))]
        tablet.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert bench.page.evaluate("labeler.view.x") > before
    bench.saved()
    assert bench.stored().sum() == 30
    bench.close()


@pytest.mark.parametrize(
    ("answer", "kept", "gone", "revision"), [("theirs", 5, 9, 1), ("mine", 9, 5, 2)]
)
def test_either_side_of_a_conflict_can_be_taken(
    bench: Bench, answer: str, kept: int, gone: int, revision: int
) -> None:
    first, second = bench.page, bench.context.new_page()
    second.goto(f"http://127.0.0.1:{bench.server.port}/")
    second.wait_for_selector('body[data-ready="1"]')
    for page in (first, second):
        bench.thin(page)
        page.evaluate("labeler.poll = () => {}")  # neither has looked yet
    bench.drag((10, 5), (30, 5), page=first)
    bench.saved(first)
    bench.drag((10, 9), (30, 9), page=second)
    second.wait_for_selector("#question[open]")
    second.click(f'[data-answer="{answer}"]')
    bench.until(f"labeler.sheet.saver.revision === {revision}", second)
    assert bench.stored()[kept, 10:31].all()
    assert not bench.stored()[gone].any()
    copies = list((bench.server.root / "state" / "conflicts").glob("*.png"))
    assert len(copies) == (1 if answer == "theirs" else 2)  # what is given up is kept
    second.close()
