"""When to learn, what to propose, and which photo to label next."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from finicky.data.pairs import Pair
from finicky.errors import FinickyError, UsageError
from finicky.labeler.pictures import Pictures
from finicky.labeler.proposals.filters import BestFilters, load_quietly
from finicky.labeler.proposals.learner import PixelClassifier
from finicky.labeler.proposals.lessons import Lesson
from finicky.labeler.states import States
from finicky.labeler.store import MaskStore
from finicky.labeler.workplace import Photo, Workplace
from finicky.masks import IGNORE

if TYPE_CHECKING:
    from finicky.labeler.proposals.network import PixelNetwork

ENOUGH = 3  # finished photos before there is anything to learn
_MOST_PHOTOS = 40  # that are learnt from: the last ones
_MOST_PIXELS = 4_200_000  # of one proposal
_JUDGED = 24  # photos that are looked at to find the next one
_JUDGED_SIDE = 512
_LEAST_PIXELS = 40  # of a class before it is told from others


@dataclass(frozen=True)
class Box:
    """A part of a photo, in px."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Proposal:
    """What would be marked in a part of a photo.

    Attributes:
        score: ``(H, W)`` uint8, how surely anything would be marked; 255 = sure.
        classes: ``(H, W)`` uint8, the number of the likeliest class.
    """

    score: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class _Trained:
    classifier: PixelClassifier | PixelNetwork
    photos: int
    seconds: float
    with_filters: bool

    def proposal(self, rgb: np.ndarray) -> Proposal:
        sure = self.classifier.probability(rgb)
        score = np.rint(sure.sum(0).clip(0, 1) * 255).astype(np.uint8)
        return Proposal(score, np.array(self.classifier.classes, np.uint8)[sure.argmax(0)])


class Proposer:
    """Learns in the background from finished photos; safe to call from several threads."""

    def __init__(
        self,
        workplace: Workplace,
        photos: tuple[Photo, ...],
        store: MaskStore,
        states: States,
        pictures: Pictures,
        *,
        backbone: str = "",
    ) -> None:
        self._workplace = workplace
        self._photos = tuple(photo for photo in photos if not photo.problem)
        self._store, self._states, self._pictures = store, states, pictures
        self._backbone_name = backbone
        self._lock = threading.Lock()
        self._learning = threading.Lock()
        self._closing = threading.Event()
        self._worker: threading.Thread | None = None
        self._busy = False
        self._again = False
        self._trained: _Trained | None = None
        self._network: PixelNetwork | None = None
        self._problem = ""
        self._next = ""

    def standing(self) -> dict[str, Any]:
        """How far the learning is, in words and numbers for the page."""
        finished = len(self._finished())
        with self._lock:
            trained, busy, problem = self._trained, self._busy, self._problem
        return {
            "finished": finished,
            "ready": trained is not None or (finished >= ENOUGH and not problem),
            "training": busy,
            "learnt_from": trained.photos if trained else 0,
            "next": self._next if self._is_open(self._next) else "",
            "text": problem or _text(finished, trained, busy),
        }

    def photo_done(self) -> None:
        """A photo was finished: learn from it too, in the background."""
        if len(self._finished()) >= ENOUGH:
            self._start_training()

    def _start_training(self) -> None:
        """Learn in the background; if that is going on, once more after it."""
        with self._lock:
            self._again = True
            if self._busy:
                return
            self._busy = True
        # No daemon: torn down in the middle of native code it would abort the whole program.
        self._worker = threading.Thread(target=self._work)
        self._worker.start()

    def close(self) -> None:
        """Give up what is going on, soon; returns when it has ended."""
        self._closing.set()
        if self._worker is not None:
            self._worker.join()

    def propose(self, photo: Photo, box: Box) -> Proposal:
        """What would be marked in a part of a photo, as far as it has learnt by now.

        Raises:
            UsageError: Too few photos are finished, or the box is too large or leaves the photo.
            MissingDependencyError: A package for learning is not installed.
        """
        inside = box.x >= 0 and box.y >= 0 and box.width > 0 and box.height > 0
        if not inside or box.x + box.width > photo.width or box.y + box.height > photo.height:
            raise UsageError("that part is not in the photo")
        if box.width * box.height > _MOST_PIXELS:
            raise UsageError("that part is too large for a proposal: zoom in first")
        with self._lock:
            trained = self._trained
        trained = trained or self._learn_quickly()
        rgb = self._pictures.rgb(photo)[box.y : box.y + box.height, box.x : box.x + box.width]
        return trained.proposal(rgb)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._again or self._closing.is_set():
                    self._busy = False
                    return
                self._again = False
            try:
                if self._trained is None or not _has_torch():
                    self._learn_quickly()
                trained = self._learn_thoroughly() if _has_torch() else self._trained
                if trained is not None:
                    self._next = self._most_doubtful(trained)
            except (FinickyError, ArithmeticError, OSError, RuntimeError, MemoryError) as error:
                with self._lock:
                    self._problem = str(error)

    def _learn_quickly(self) -> _Trained:
        """The forests, in seconds: for the first proposals, and where torch is missing."""
        with self._learning:
            started = time.monotonic()
            photos, lessons = self._lessons()
            filters = self._filters(photos)
            extra = filters.features if filters else None
            classifier = PixelClassifier(lessons, extra=extra, check=self._check)
            return self._learnt(classifier, len(photos), started, filters is not None)

    def _learn_thoroughly(self) -> _Trained:
        """The network, which goes on from what it knew before: about half a minute a photo."""
        from finicky.labeler.proposals.network import FIRST_STEPS, MORE_STEPS, PixelNetwork

        with self._learning:
            started = time.monotonic()
            photos, lessons = self._lessons()
            classes = sorted(
                {n for lesson in lessons for n in np.unique(lesson.labels).tolist() if n}
            )
            network = self._network
            if network is None or network.classes != tuple(classes):
                filters = self._filters(photos)
                extra = (filters.features, len(filters.chosen)) if filters else None
                network = PixelNetwork(classes, extra=extra)
            steps = MORE_STEPS if network.steps else FIRST_STEPS
            self._network = network.taught(lessons, steps=steps, check=self._check)
            return self._learnt(self._network, len(photos), started, self._network.has_extra)

    def _learnt(
        self,
        classifier: PixelClassifier | PixelNetwork,
        photos: int,
        started: float,
        with_filters: bool,
    ) -> _Trained:
        trained = _Trained(classifier, photos, time.monotonic() - started, with_filters)
        with self._lock:
            self._trained, self._problem = trained, ""
        return trained

    def _lessons(self) -> tuple[list[Photo], list[Lesson]]:
        photos = self._finished()[-_MOST_PHOTOS:]
        if len(photos) < ENOUGH:
            raise UsageError(_text(len(photos), None, False))
        lessons = [self._lesson(photo) for photo in photos]
        counts = np.sum([np.bincount(one.labels.ravel(), minlength=256) for one in lessons], axis=0)
        rare = np.flatnonzero(counts < _LEAST_PIXELS)
        for lesson in lessons:
            lesson.known[np.isin(lesson.labels, rare[rare > 0])] = False
            lesson.labels[~lesson.known] = 0
        if not any(lesson.marked.any() for lesson in lessons):
            raise UsageError("Nothing is marked in the finished photos: there is nothing to learn.")
        return photos, lessons

    def _check(self) -> None:
        if self._closing.is_set():
            raise FinickyError("the labeler is closing")

    def _filters(self, photos: list[Photo]) -> BestFilters | None:
        backbone, _ = load_quietly(self._backbone_name)
        if backbone is None:
            return None
        pairs = [Pair(p.key, p.path, self._store.path(p)) for p in photos if self._has_mask(p)]
        classes = self._workplace.classes
        return BestFilters(backbone, pairs, classes, classes.targets())

    def _lesson(self, photo: Photo) -> Lesson:
        """In a finished photo everything that is not marked is something else."""
        ids = self._store.load(photo).ids
        marks = [c.id for c in self._workplace.classes if c.role != "background"]
        return Lesson(self._pictures.rgb(photo), ids * np.isin(ids, marks), ids != IGNORE)

    def _finished(self) -> list[Photo]:
        return [photo for photo in self._photos if self._states.get(photo).status == "done"]

    def _has_mask(self, photo: Photo) -> bool:
        return self._store.path(photo).exists()

    def _is_open(self, photo_id: str) -> bool:
        return any(
            photo.id == photo_id and self._states.get(photo).status in ("todo", "in_progress")
            for photo in self._photos
        )

    def _most_doubtful(self, trained: _Trained) -> str:
        """The open photo with most pixels in doubt (Settles 2009, uncertainty sampling)."""
        waiting = [photo for photo in self._photos if self._is_open(photo.id)]
        step = max(1, len(waiting) // _JUDGED)
        doubts = []
        for photo in waiting[::step][:_JUDGED]:
            with self._lock:
                if self._again:  # there is more to learn from; what is found now would be old
                    break
            rgb = _middle(self._pictures.rgb(photo))
            sure = trained.proposal(rgb).score / 255
            doubts.append((float((1 - np.abs(2 * sure - 1)).mean()), photo.id))
        return max(doubts)[1] if doubts else ""


def _has_torch() -> bool:
    return find_spec("torch") is not None


def _middle(rgb: np.ndarray) -> np.ndarray:
    y, x = (max(0, (side - _JUDGED_SIDE) // 2) for side in rgb.shape[:2])
    return rgb[y : y + _JUDGED_SIDE, x : x + _JUDGED_SIDE]


def _text(finished: int, trained: _Trained | None, busy: bool) -> str:
    if trained is not None:
        with_what = " with the network's best filters" if trained.with_filters else ""
        text = f"Learnt from {trained.photos} photos in {trained.seconds:.0f} s{with_what}."
        return f"{text} Learning more…" if busy else text
    if busy:
        return "Learning from your photos…"
    if finished < ENOUGH:
        missing = ENOUGH - finished
        return f"Finish {missing} more photo{'s' if missing > 1 else ''}, then I propose masks."
    return "Ready to propose masks."
