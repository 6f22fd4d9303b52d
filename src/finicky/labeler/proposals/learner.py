"""A classifier of pixels that is trained in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finicky.errors import MissingDependencyError
from finicky.labeler.proposals.features import REACH, classic_features
from finicky.tiling import starts

Extra = Callable[[np.ndarray], np.ndarray]

_SIDE = 1024  # of the parts in which a photo is worked on, in px
_PARTS = 3  # of a large photo that are learnt from
_MARKED, _UNMARKED = 1500, 4000  # pixels that are learnt from in each part
_NEAR = 6  # px around a marked pixel, where most doubts are


@dataclass(frozen=True)
class Lesson:
    """A labelled photo.

    Attributes:
        rgb: ``(H, W, 3)`` uint8.
        marked: ``(H, W)`` bool, pixels of the target.
        unmarked: ``(H, W)`` bool, pixels that are known to be something else.
    """

    rgb: np.ndarray
    marked: np.ndarray
    unmarked: np.ndarray


class PixelClassifier:
    """Learns from lessons which pixels are marked.

    A random forest (Breiman 2001) on the features of single pixels: as good as boosted trees here,
    and five times as fast to ask. The sampled pixels are weighted by how
    many each stands for, so that the answers are probabilities on whole photos.

    Args:
        lessons: At least one with marked and one with unmarked pixels.
        extra: More features for a part of a photo, ``(H, W, F)``.
        seed: Of the sampling.

    Raises:
        MissingDependencyError: scikit-learn or scipy is not installed.
    """

    def __init__(
        self, lessons: Sequence[Lesson], *, extra: Extra | None = None, seed: int = 0
    ) -> None:
        try:
            import scipy.signal  # noqa: F401
            from sklearn.ensemble import RandomForestClassifier
        except ImportError as error:
            raise MissingDependencyError(
                "proposals need scikit-learn and scipy: pip install "
                "'finicky-transfer-learning[label]'"
            ) from error
        self._extra = extra
        rng = np.random.default_rng(seed)
        samples = [self._sample(part, rng) for lesson in lessons for part in _parts(lesson)]
        columns = zip(*samples, strict=True)
        features, marked, weights = (np.concatenate(column) for column in columns)
        self._trees: Any = RandomForestClassifier(
            n_estimators=40,
            max_depth=14,
            min_samples_leaf=5,
            max_features=0.3,
            n_jobs=-1,
            random_state=seed,
        )
        self._trees.fit(features, marked, sample_weight=weights / weights.mean())

    def probability(self, rgb: np.ndarray) -> np.ndarray:
        """For each pixel the probability that a person would mark it: ``(H, W)`` float32."""
        height, width = rgb.shape[:2]
        out = np.empty((height, width), np.float32)
        for y in starts(height, min(_SIDE, height), _SIDE):
            for x in starts(width, min(_SIDE, width), _SIDE):
                top, left = max(0, y - REACH), max(0, x - REACH)
                part = rgb[top : y + _SIDE + REACH, left : x + _SIDE + REACH]
                answer = self._answer(part)[y - top :, x - left :]
                block = out[y : y + _SIDE, x : x + _SIDE]
                block[...] = answer[: block.shape[0], : block.shape[1]]
        return out

    def _answer(self, rgb: np.ndarray) -> np.ndarray:
        features = self._features(rgb)
        flat = features.reshape(-1, features.shape[-1])
        return self._trees.predict_proba(flat)[:, 1].reshape(rgb.shape[:2]).astype(np.float32)

    def _features(self, rgb: np.ndarray) -> np.ndarray:
        classic = classic_features(rgb)
        return classic if self._extra is None else np.dstack([classic, self._extra(rgb)])

    def _sample(
        self, part: Lesson, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from scipy.ndimage import binary_dilation

        near = binary_dilation(part.marked, iterations=_NEAR) & part.unmarked
        groups = [
            (part.marked, _MARKED),
            (near, _UNMARKED // 2),
            (part.unmarked & ~near, _UNMARKED // 2),
        ]
        chosen, weights = [], []
        for pixels, most in groups:
            places = np.flatnonzero(pixels)
            taken = rng.choice(places, min(most, places.size), replace=False)
            chosen.append(taken)
            weights.append(np.full(taken.size, places.size / max(1, taken.size)))
        index = np.concatenate(chosen)
        features = self._features(part.rgb)
        flat = features.reshape(-1, features.shape[-1])[index]
        return flat, part.marked.ravel()[index], np.concatenate(weights)


def _parts(lesson: Lesson) -> Iterator[Lesson]:
    """The parts of a photo that are learnt from: those with most marked pixels."""
    height, width = lesson.marked.shape
    places = []
    for y in starts(height, min(_SIDE, height), _SIDE):
        for x in starts(width, min(_SIDE, width), _SIDE):
            block = np.s_[y : y + _SIDE, x : x + _SIDE]
            if lesson.marked[block].any() or lesson.unmarked[block].any():
                places.append((-int(lesson.marked[block].sum()), y, x))
    for _, y, x in sorted(places)[:_PARTS]:
        block = np.s_[y : y + _SIDE, x : x + _SIDE]
        yield Lesson(lesson.rgb[block], lesson.marked[block], lesson.unmarked[block])
