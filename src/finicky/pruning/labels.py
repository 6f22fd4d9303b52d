"""Which channels are the same, and which must go together: sets that grow."""

from __future__ import annotations

import numpy as np

# A label of elements that belong to no channel of a convolution, such as zeros of padding.
NOBODY = -1
# Of what may not be cut: the photo's colours, the classes, channels that are mixed with others.
PINNED = 0


class Labels:
    """Numbers for channels, in sets: of one channel under several names, of ones tied together."""

    def __init__(self) -> None:
        self._same: list[int] = [PINNED]
        self._tied: list[tuple[int, int]] = []
        self.reasons: dict[int, str] = {}

    def fresh(self, count: int) -> np.ndarray:
        """So many labels that nobody has yet."""
        first = len(self._same)
        self._same.extend(range(first, first + count))
        return np.arange(first, first + count)

    def unite(self, a: np.ndarray, b: np.ndarray) -> None:
        """Pairs of labels are one and the same channel from now on; `NOBODY` is left out."""
        pairs = np.unique(np.stack([a.ravel(), b.ravel()]).astype(np.int64), axis=1)
        for one, other in pairs.T.tolist():
            if NOBODY in (one, other):
                continue
            one, other = self._find(one), self._find(other)
            if one != other:
                low, high = min(one, other), max(one, other)
                self._same[high] = low

    def tie(self, labels: np.ndarray) -> None:
        """These stay or go together from now on; each keeps its own name."""
        known = np.unique(labels[labels != NOBODY].astype(np.int64)).tolist()
        self._tied += [(known[0], other) for other in known[1:]]

    def pin(self, labels: np.ndarray, reason: str) -> None:
        """These stay."""
        for label in np.unique(labels[labels > PINNED].astype(np.int64)).tolist():
            self.reasons.setdefault(label, reason)
            self._tied.append((PINNED, label))

    def names(self, labels: np.ndarray) -> np.ndarray:
        """The lowest label of each one's channel."""
        return np.array([n if n == NOBODY else self._find(n) for n in labels.astype(int).tolist()])

    def units(self) -> np.ndarray:
        """By label, the lowest of those that stay or go together."""
        leaders = list(range(len(self._same)))

        def find(n: int) -> int:
            while leaders[n] != n:
                leaders[n] = leaders[leaders[n]]
                n = leaders[n]
            return n

        pairs = [*enumerate(self._same), *self._tied]
        for one, other in pairs:
            a, b = find(one), find(other)
            leaders[max(a, b)] = min(a, b)
        return np.array([find(n) for n in range(len(leaders))])

    def _find(self, n: int) -> int:
        same = self._same
        while same[n] != n:
            same[n] = same[same[n]]
            n = same[n]
        return n
