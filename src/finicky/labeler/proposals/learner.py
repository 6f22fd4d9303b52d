"""A classifier of pixels that is trained in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finicky.errors import MissingDependencyError
from finicky.labeler.proposals.features import REACH, classic_features, line_maps
from finicky.tiling import starts

Extra = Callable[[np.ndarray], np.ndarray]

_SIDE = 1024  # of the parts in which a photo is worked on, in px
_PARTS = 3  # of a large photo that are learnt from
_MARKED, _UNMARKED = 1200, 3200  # pixels that are learnt from in each part
_LOST = 0.003  # share of marked pixels that the first look may miss
_POSSIBLE = 0.03  # probability below which nothing is looked at again
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


def _go_on() -> None:
    pass


class PixelClassifier:
    """Learns from lessons which pixels are marked.

    A first look by one feature turns away most of a photo. Two random forests (Breiman 2001), each
    of half of the photos, look at the features of the other pixels. A third one also sees what
    they say about the surroundings, which closes gaps and drops specks (auto-context, Tu and Bai
    2010); it learns from photos that the forest asked has not seen. Sampled pixels are weighted by
    how many each stands for, so that the answers are probabilities on whole photos.

    Args:
        lessons: At least one with marked and one with unmarked pixels.
        extra: More features for a part of a photo, ``(H, W, F)``.
        seed: Of the sampling.
        check: Called again and again, here and while asked; stops the work by raising.

    Raises:
        MissingDependencyError: scikit-learn or scipy is not installed.
    """

    def __init__(
        self,
        lessons: Sequence[Lesson],
        *,
        extra: Extra | None = None,
        seed: int = 0,
        check: Callable[[], None] = _go_on,
    ) -> None:
        _check_installed()
        self._extra, self._check = extra, check
        rng = np.random.default_rng(seed)
        parts = [part for lesson in lessons for part in _parts(lesson)]
        places = [_sample(part, rng) for part in parts]
        first = [
            _rows(self._features(part.rgb), part, where)
            for part, where in zip(parts, places, strict=True)
        ]
        self._gate = _best_gate(first)
        halves = [first[0::2], first[1::2] or first[0::2]]
        self._pair = [_forest(half, seed) for half in halves]
        second = []
        for number, (part, where) in enumerate(zip(parts, places, strict=True)):
            other = self._pair[1 - number % 2]
            features = self._features(part.rgb)
            answer = _ask(other, features, self._gate.passes(features))
            second.append(_rows(np.dstack([features, _context(answer)]), part, where))
        self._last = _forest(second, seed)

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
        passing = self._gate.passes(features)
        first = np.mean([_ask(forest, features, passing) for forest in self._pair], axis=0)
        return _ask(self._last, np.dstack([features, _context(first)]), _near(first))

    def _features(self, rgb: np.ndarray) -> np.ndarray:
        self._check()
        classic = classic_features(rgb)
        return classic if self._extra is None else np.dstack([classic, self._extra(rgb)])


@dataclass(frozen=True)
class _Rows:
    """Pixels to learn from: ``(N, F)`` features, ``(N,)`` marked or not, ``(N,)`` weights."""

    features: np.ndarray
    marked: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class _Places:
    """Which pixels of a part are learnt from, and how many each of them stands for."""

    index: np.ndarray
    weights: np.ndarray


def _sample(part: Lesson, rng: np.random.Generator) -> _Places:
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
    return _Places(np.concatenate(chosen), np.concatenate(weights))


def _rows(features: np.ndarray, part: Lesson, where: _Places) -> _Rows:
    flat = features.reshape(-1, features.shape[-1])[where.index]
    return _Rows(flat, part.marked.ravel()[where.index], where.weights)


def _forest(rows: Sequence[_Rows], seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    weights = np.concatenate([part.weights for part in rows])
    forest = RandomForestClassifier(
        n_estimators=30,
        max_depth=14,
        min_samples_leaf=5,
        max_features="sqrt",
        n_jobs=-1,
        random_state=seed,
    )
    return forest.fit(
        np.concatenate([part.features for part in rows]),
        np.concatenate([part.marked for part in rows]),
        sample_weight=weights / weights.mean(),
    )


@dataclass(frozen=True)
class _Gate:
    """A first look by one feature, which spares the forests most of a photo."""

    feature: int
    sign: int
    least: float

    def passes(self, features: np.ndarray) -> np.ndarray:
        """``(H, W)`` bool: where a mark is possible at all."""
        return self.sign * features[..., self.feature] >= self.least


def _best_gate(rows: Sequence[_Rows]) -> _Gate:
    """The gate that turns away most of what is unmarked and next to nothing of what is marked."""
    features = np.concatenate([part.features for part in rows])
    marked = np.concatenate([part.marked for part in rows])
    weights = np.concatenate([part.weights for part in rows])[~marked]
    best, gate = -1.0, _Gate(0, 1, -np.inf)
    if not marked.any() or marked.all():
        return gate
    for column in range(features.shape[1]):
        for sign in (1, -1):
            least = float(np.quantile(sign * features[marked, column], _LOST))
            turned = float(weights[sign * features[~marked, column] < least].sum())
            if turned > best:
                best, gate = turned, _Gate(column, sign, least)
    return gate


def _near(answer: np.ndarray) -> np.ndarray:
    """Where the last forest is worth asking: around any pixel that could be marked."""
    from scipy.ndimage import maximum_filter

    return maximum_filter(answer, 7) >= _POSSIBLE


def _ask(forest: Any, features: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The forest's probabilities where it is asked, 0 elsewhere: ``(H, W)`` float32."""
    out = np.zeros(where.shape, np.float32)
    # A forest whose half of the photos shows nothing marked knows no mark.
    if where.any() and True in forest.classes_:
        answers = forest.predict_proba(features[where])
        out[where] = answers[:, list(forest.classes_).index(True)]
    return out


def _context(answer: np.ndarray) -> np.ndarray:
    """The answers around each pixel: ``(H, W, F)`` float32."""
    from scipy.ndimage import gaussian_filter

    maps = [answer, *(gaussian_filter(answer, scale) for scale in (1, 2, 4, 8))]
    for length, width in ((15, 1.5), (31, 2.0), (61, 3.0)):
        maps += list(line_maps(-answer, length, width))[:2]
    return np.stack(maps, axis=-1).astype(np.float32)


def _check_installed() -> None:
    try:
        import scipy.signal  # noqa: F401
        import sklearn.ensemble  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "proposals need scikit-learn and scipy: pip install 'finicky-transfer-learning[label]'"
        ) from error


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
