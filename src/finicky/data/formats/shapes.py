"""Between masks and polygons, without losing a pixel.

Coordinates are those of pixel corners: the pixel in column 3 reaches from x = 3 to x = 4. A pixel
belongs to a polygon if its centre does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

Ring = np.ndarray  # (N, 2) float of x, y in px; closed without repeating its first corner


def fill(rings: Sequence[Ring], height: int, width: int) -> np.ndarray:
    """Pixels whose centres lie inside an odd number of rings: ``(height, width)`` bool.

    Rings within rings are holes. Two edges that lie on one another cancel, so that holes may be
    joined to their outline by a bridge of no width.
    """
    toggles = np.zeros((height, width + 1), np.int32)
    for ring in rings:
        points = np.asarray(ring, np.float64)
        for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
            (ax, ay), (bx, by) = sorted([(ax, ay), (bx, by)], key=lambda p: p[1])
            first, last = max(0, int(np.ceil(ay - 0.5))), min(height, int(np.ceil(by - 0.5)))
            if first >= last:
                continue
            rows = np.arange(first, last)
            crossing = ax + (rows + 0.5 - ay) / (by - ay) * (bx - ax)
            columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
            toggles[rows, columns] += 1
    return np.cumsum(toggles[:, :-1], axis=1) % 2 == 1


def outlines(mask: np.ndarray) -> list[Ring]:
    """The exact outlines of a mask, those of its holes included, along the pixels' edges.

    ``fill`` gives back the mask. Corners on straight lines are left out.
    """
    padded = np.pad(mask.astype(bool), 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add(starts: np.ndarray, dx: int, dy: int, ox: int, oy: int) -> None:
        for y, x in starts.tolist():
            begin = (x + ox, y + oy)
            following.setdefault(begin, []).append((begin[0] + dx, begin[1] + dy))

    inner = padded[1:-1, 1:-1]
    add(np.argwhere(inner & ~padded[:-2, 1:-1]), 1, 0, 0, 0)
    add(np.argwhere(inner & ~padded[1:-1, 2:]), 0, 1, 1, 0)
    add(np.argwhere(inner & ~padded[2:, 1:-1]), -1, 0, 1, 1)
    add(np.argwhere(inner & ~padded[1:-1, :-2]), 0, -1, 0, 1)
    rings = []
    while following:
        rings.append(_trace(following))
    return rings


def _trace(following: dict[tuple[int, int], list[tuple[int, int]]]) -> Ring:
    start = next(iter(following))
    ring, at = [start], start
    while True:
        choices = following[at]
        after = choices.pop()
        if not choices:
            del following[at]
        if after == start:
            break
        ring.append(after)
        at = after
    return _without_straight(np.array(ring, np.float64))


def _without_straight(ring: Ring) -> Ring:
    before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
    ax, ay = (ring - before).T
    bx, by = (after - ring).T
    return ring[ax * by != ay * bx]


def simplified(ring: Ring, tolerance: float) -> Ring:
    """A ring with fewer corners, none of which moved; lines stay within ``tolerance`` px.

    Douglas and Peucker 1973.
    """
    if tolerance <= 0 or len(ring) < 5:
        return ring
    far = int(np.argmax(np.hypot(*(ring - ring[0]).T)))
    keep = {0, far, *_kept(ring, 0, far, tolerance)}
    closed = np.vstack([ring, ring[:1]])
    keep |= set(_kept(closed, far, len(ring), tolerance))
    return ring[sorted(index for index in keep if index < len(ring))]


def _kept(points: Ring, first: int, last: int, tolerance: float) -> Iterator[int]:
    waiting = [(first, last)]
    while waiting:
        a, b = waiting.pop()
        if b - a < 2:
            continue
        line, inside = points[b] - points[a], points[a + 1 : b] - points[a]
        length = np.hypot(*line)
        if length == 0:
            distance = np.hypot(*inside.T)
        else:
            distance = np.abs(line[0] * inside[:, 1] - line[1] * inside[:, 0]) / length
        worst = int(np.argmax(distance))
        if distance[worst] > tolerance:
            middle = a + 1 + worst
            yield middle
            waiting += [(a, middle), (middle, b)]


def bridged(rings: Sequence[Ring]) -> Ring:
    """One ring that goes around several by way of bridges of no width.

    For formats that know no holes: ``fill`` of it is the same as of all the rings.
    """
    order = sorted(rings, key=_area, reverse=True)
    joined = order[0]
    for ring in order[1:]:
        distances = np.hypot(*(joined[:, None] - ring[None]).transpose(2, 0, 1))
        at, entry = np.unravel_index(int(np.argmin(distances)), distances.shape)
        turn = np.roll(ring, -int(entry), axis=0)
        joined = np.vstack([joined[: at + 1], turn, turn[:1], joined[at:]])
    return joined


def _area(ring: Ring) -> float:
    x, y = ring.T
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def regions(mask: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """The 8-connected parts of a mask: ``(h, w)`` bool of the part's box, its x and its y."""
    from scipy.ndimage import find_objects, label

    numbered, _ = label(mask, structure=np.ones((3, 3), bool))
    for number, box in enumerate(find_objects(numbered), start=1):
        yield numbered[box] == number, box[1].start, box[0].start
