"""What a sweep tells of itself while it runs, for people and for machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something happened; ``facts`` are plain values for JSON.

    Kinds and their facts:
        started: ``out``, the run folder; ``candidates`` in all, ``None`` where that follows from
            what is seen; ``finished`` ones there by earlier starts; ``most_kept``, the largest keep
            ratio that the budgets allow, 1 where all do.
        damaged: ``file``, relative to the run folder, that is not as it was written; it is made
            again.
        candidate: ``candidate``, ``status`` (finished, kept from an earlier start, or failed),
            ``done`` of ``total`` (``sure``: whether no search may ask for more, or fewer),
            ``seconds``, ``seconds_left`` for the rest; of one that did not
            fail ``val_balanced_accuracy``, ``val_f1``, ``params``; of one that failed ``reason``;
            and ``best``, the candidate that leads on validation so far, with ``best_score``.
    """

    kind: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One object a line: ``event``, then the facts."""
        return {"event": self.kind, **self.facts}


Listener = Callable[[Event], None]


def unheard(event: Event) -> None:
    """The default listener: nobody."""
    del event
