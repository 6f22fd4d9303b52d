"""What is learnt from: labelled photos, and the parts in which large ones are worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from finicky.labeler.proposals.features import REACH
from finicky.tiling import starts

Extra = Callable[[np.ndarray], np.ndarray]

SIDE = 1024  # of the parts in which a photo is worked on, in px
_PARTS = 3  # of a large photo that are learnt from


@dataclass(frozen=True)
class Lesson:
    """A labelled photo.

    Attributes:
        rgb: ``(H, W, 3)`` uint8.
        labels: ``(H, W)`` uint8, the class number of marked pixels, 0 for something else.
        known: ``(H, W)`` bool, pixels of which ``labels`` says anything.
    """

    rgb: np.ndarray
    labels: np.ndarray
    known: np.ndarray

    @property
    def marked(self) -> np.ndarray:
        """``(H, W)`` bool, pixels of any class."""
        return self.known & (self.labels > 0)


def go_on() -> None:
    """The check of work that nobody stops."""


def parts(lesson: Lesson) -> Iterator[Lesson]:
    """The parts of a photo that are learnt from: those with most marked pixels."""
    height, width = lesson.labels.shape
    places = []
    for y in starts(height, min(SIDE, height), SIDE):
        for x in starts(width, min(SIDE, width), SIDE):
            block = np.s_[y : y + SIDE, x : x + SIDE]
            if lesson.known[block].any():
                places.append((-int(lesson.marked[block].sum()), y, x))
    for _, y, x in sorted(places)[:_PARTS]:
        block = np.s_[y : y + SIDE, x : x + SIDE]
        yield Lesson(lesson.rgb[block], lesson.labels[block], lesson.known[block])


def in_parts(rgb: np.ndarray, answer: Extra, classes: int) -> np.ndarray:
    """``answer`` for a whole photo, asked part by part with a border: ``(classes, H, W)`` float32.

    Args:
        rgb: ``(H, W, 3)`` uint8.
        answer: Gives ``(classes, h, w)`` for ``(h, w, 3)``.
        classes: How many planes that are.
    """
    height, width = rgb.shape[:2]
    out = np.empty((classes, height, width), np.float32)
    for y in starts(height, min(SIDE, height), SIDE):
        for x in starts(width, min(SIDE, width), SIDE):
            top, left = max(0, y - REACH), max(0, x - REACH)
            part = rgb[top : y + SIDE + REACH, left : x + SIDE + REACH]
            found = answer(part)[:, y - top :, x - left :]
            block = out[:, y : y + SIDE, x : x + SIDE]
            block[...] = found[:, : block.shape[1], : block.shape[2]]
    return out
