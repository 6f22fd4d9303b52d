"""How long work tells where it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the stage's name, how much is done and how much there is in all."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """The default listener: nobody."""


def titled(progress: Progress, title: str) -> Progress:
    """The same listener, told another stage's name than the worker's own."""

    def report(stage: str, done: int, total: int) -> None:
        del stage
        progress(title, done, total)

    return report
