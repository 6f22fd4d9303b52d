"""A sweep while it runs: lines for people on stderr, or ``--json`` events on stdout."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Self

from finicky.cli.console import say

if TYPE_CHECKING:
    from finicky.sweep.events import Event

# A machine needs no more than this many events a second and stage.
INTERVAL_S = 1.0


class JsonEvents:
    """One JSON object a line; takes the place of the console's progress."""

    def __init__(self) -> None:
        self._stage, self._since = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, stage: str, done: int, total: int) -> None:
        """The `Progress` protocol: the start and the end of a stage, and each second between."""
        now = time.monotonic()
        if stage != self._stage or done >= total or now - self._since >= INTERVAL_S:
            self._stage, self._since = stage, now
            emit("stage", stage=stage, done=done, total=total)

    def listen(self, event: Event) -> None:
        """Pass an event of the sweep on."""
        print(json.dumps(event.to_json(), allow_nan=False), flush=True)


def emit(event: str, **facts: Any) -> None:
    """Print an event that is not the sweep's own."""
    print(json.dumps({"event": event, **facts}), flush=True)


def tell(event: Event) -> None:
    """Print an event for people."""
    facts = event.facts
    if event.kind == "started":
        say(f"run folder: {facts['out']} (stopped early, go on with the same command and --out)")
        if facts["most_kept"] < 1:
            say(f"keep ratios within the budget: {facts['most_kept']:g} and below")
        if facts["finished"]:
            of_total = "" if facts["candidates"] is None else f" of {facts['candidates']}"
            say(f"{facts['finished']}{of_total} candidates are there already")
    elif event.kind == "damaged":
        say(f"{facts['file']} is not as it was written: it is made again")
    elif event.kind == "candidate" and facts["status"] != "kept":
        say(_told(facts))


def _told(facts: dict[str, Any]) -> str:
    if facts["status"] == "failed":
        head = f"{facts['candidate']} could not be made: {facts['reason']}"
    else:
        head = f"{facts['candidate']}: balanced accuracy {_figure(facts['val_balanced_accuracy'])}"
        head += f" on validation, {facts['params']:,} parameters"
    about = "" if facts["sure"] else "about "
    parts = [head, f"{facts['done']} of {about}{facts['total']} done"]
    if facts["best"] is not None:
        parts.append(f"best so far {facts['best']}")
    if facts["seconds_left"]:
        parts.append(f"about {duration(facts['seconds_left'])} left")
    return "; ".join(parts)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
