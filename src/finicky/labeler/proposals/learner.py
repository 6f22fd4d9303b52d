"""A classifier of pixels that is trained in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finicky.errors import MissingDependencyError
from finicky.labeler.proposals.features import classic_features, line_maps
from finicky.labeler.proposals.lessons import Extra, Lesson, go_on, in_parts, parts

_MARKED, _UNMARKED = 1200, 3200  # pixels that are learnt from in each part
_LOST = 0.003  # share of marked pixels that the first look may miss
_POSSIBLE = 0.03  # probability below which nothing is looked at again
_NEAR = 6  # px around a marked pixel, where most doubts are


class PixelClassifier:
    """Learns from lessons which pixels are marked.

    A first look by one feature turns away most of a photo. Two random forests (Breiman 2001), each
    of half of the photos, look at the features of the other pixels. A third one also sees what
    they say about the surroundings, which closes gaps and drops specks (auto-context, Tu and Bai
    2010); it learns from photos that the forest asked has not seen. Sampled pixels are weighted by
    how many each stands for, so that the answers are probabilities on whole photos.

    Args:
        lessons: At least one with marked and one with unmarked pixels. Each class in them is
            told from the others.
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
        check: Callable[[], None] = go_on,
    ) -> None:
        _check_installed()
        self._extra, self._check = extra, check
        rng = np.random.default_rng(seed)
        self.classes = _classes(lessons)
        taken = [part for lesson in lessons for part in parts(lesson)]
        places = [_sample(part, rng) for part in taken]
        first = [
            _rows(self._features(part.rgb), part, where)
            for part, where in zip(taken, places, strict=True)
        ]
        self._gate = _best_gate(first)
        halves = [first[0::2], first[1::2] or first[0::2]]
        self._pair = [_forest(half, seed) for half in halves]
        second = []
        for number, (part, where) in enumerate(zip(taken, places, strict=True)):
            other = self._pair[1 - number % 2]
            features = self._features(part.rgb)
            answer = self._ask(other, features, self._gate.passes(features))
            second.append(_rows(np.dstack([features, _context(answer.sum(0))]), part, where))
        self._last = _forest(second, seed)

    def probability(self, rgb: np.ndarray) -> np.ndarray:
        """For each class and pixel the probability that it is marked: ``(K, H, W)`` float32."""
        return in_parts(rgb, self._answer, len(self.classes))

    def _answer(self, rgb: np.ndarray) -> np.ndarray:
        features = self._features(rgb)
        passing = self._gate.passes(features)
        first = np.mean([self._ask(forest, features, passing) for forest in self._pair], axis=0)
        near = _near(first.sum(0))
        return self._ask(self._last, np.dstack([features, _context(first.sum(0))]), near)

    def _ask(self, forest: Any, features: np.ndarray, where: np.ndarray) -> np.ndarray:
        """The forest's probabilities where it is asked, 0 elsewhere: ``(K, H, W)`` float32."""
        out = np.zeros((len(self.classes), *where.shape), np.float32)
        if where.any():
            answers = forest.predict_proba(features[where])
            # A forest whose half of the photos shows nothing of a class does not know it.
            for column, number in enumerate(forest.classes_):
                if number:
                    out[self.classes.index(number)][where] = answers[:, column]
        return out

    def _features(self, rgb: np.ndarray) -> np.ndarray:
        self._check()
        classic = classic_features(rgb)
        return classic if self._extra is None else np.dstack([classic, self._extra(rgb)])


@dataclass(frozen=True)
class _Rows:
    """Pixels to learn from: ``(N, F)`` features, ``(N,)`` class numbers, ``(N,)`` weights."""

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class _Places:
    """Which pixels of a part are learnt from, and how many each of them stands for."""

    index: np.ndarray
    weights: np.ndarray


def _classes(lessons: Sequence[Lesson]) -> tuple[int, ...]:
    found = {int(n) for lesson in lessons for n in np.unique(lesson.labels[lesson.known])}
    return tuple(sorted(found - {0}))


def _sample(part: Lesson, rng: np.random.Generator) -> _Places:
    from scipy.ndimage import binary_dilation

    unmarked = part.known & ~part.marked
    near = binary_dilation(part.marked, iterations=_NEAR) & unmarked
    groups = [(part.known & (part.labels == n), _MARKED) for n in _classes([part])]
    groups += [(near, _UNMARKED // 2), (unmarked & ~near, _UNMARKED // 2)]
    chosen, weights = [], []
    for pixels, most in groups:
        places = np.flatnonzero(pixels)
        taken = rng.choice(places, min(most, places.size), replace=False)
        chosen.append(taken)
        weights.append(np.full(taken.size, places.size / max(1, taken.size)))
    return _Places(np.concatenate(chosen), np.concatenate(weights))


def _rows(features: np.ndarray, part: Lesson, where: _Places) -> _Rows:
    flat = features.reshape(-1, features.shape[-1])[where.index]
    return _Rows(flat, part.labels.ravel()[where.index], where.weights)


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
        np.concatenate([part.labels for part in rows]),
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
    marked = np.concatenate([part.labels for part in rows]) > 0
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
