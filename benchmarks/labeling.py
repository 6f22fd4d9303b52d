"""How much work proposals save a person who labels cracks: strokes per photo, at equal IoU.

The person is scripted. By hand they trace the reference mask's centre line in strokes of at most
``--reach`` px, with a hand that strays smoothly by ``--slip`` px (standard deviation) and a brush
as wide as the crack. With proposals they may press [ or ] up to twice (1 stroke each), accept (1
stroke), and then, as long as it helps, take away a wrong region, run a loose stroke along a missed
crack (drag adds what the classifier half believes) or trace a piece by hand (1 stroke each), until
the mask is as good as their own mask by hand. Where that is out of reach they undo and draw all of
it by hand, at the price of 1 stroke more. The press count that needs fewest strokes is taken.

    python benchmarks/labeling.py ../shared/data/cfd --backbone vgg16

Photos to learn from are drawn from the split `train` (with their reference masks), photos to label
from the others; nothing is tuned on the latter.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import deque
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.morphology import skeletonize

from finicky.classes import DEFAULT_CLASSES
from finicky.data.pairs import Pair
from finicky.labeler.proposals.filters import BestFilters, load_quietly
from finicky.labeler.proposals.learner import Lesson, PixelClassifier

# What the page marks before anybody has touched the slider, and drops as too small.
CUT, SMALLEST = 100 / 255, 20
PRESS, MOST_PRESSES = 10 / 255, 2
LOOSE = 6  # px to either side that a loose stroke reaches
EIGHT = np.ones((3, 3), bool)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    learn, judge = _split(arguments.data, arguments.photos)
    backbone, problem = load_quietly(arguments.backbone)
    if problem:
        raise SystemExit(problem)
    results = []
    for count in arguments.learn:
        classifier, seconds = _learn(arguments.data, learn[:count], backbone)
        rows = [
            _label(arguments, name, classifier, np.random.default_rng(number))
            for number, name in enumerate(judge)
        ]
        results.append({"learnt_from": count, "seconds": round(seconds, 1), **_summary(rows)})
        print(json.dumps(results[-1]), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with images/, masks/ and split.csv")
    parser.add_argument("--learn", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--photos", type=int, default=30, help="photos to label")
    parser.add_argument("--backbone", default="")
    parser.add_argument("--slip", type=float, nargs="+", default=[0.0, 0.5, 1.0], help="px")
    parser.add_argument("--reach", type=int, default=80, help="longest stroke, px")
    return parser.parse_args()


def _split(data: Path, photos: int) -> tuple[list[str], list[str]]:
    with (data / "split.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    learn = [row["image"] for row in rows if row["split"] == "train"]
    judge = [row["image"] for row in rows if row["split"] != "train"]
    np.random.default_rng(0).shuffle(learn)
    return learn, judge[:photos]


def _load(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    rgb = np.asarray(Image.open(data / "images" / name).convert("RGB"))
    mask = np.asarray(Image.open((data / "masks" / name).with_suffix(".png"))) > 0
    return rgb, mask


def _learn(data: Path, names: list[str], backbone: object) -> tuple[PixelClassifier, float]:
    started = time.monotonic()
    lessons = [Lesson(rgb, mask, ~mask) for rgb, mask in (_load(data, name) for name in names)]
    extra = None
    if backbone is not None:
        pairs = [
            Pair(name, data / "images" / name, (data / "masks" / name).with_suffix(".png"))
            for name in names
        ]
        extra = BestFilters(backbone, pairs, DEFAULT_CLASSES, DEFAULT_CLASSES.targets()).features
    return PixelClassifier(lessons, extra=extra), time.monotonic() - started


def _label(
    arguments: argparse.Namespace,
    name: str,
    classifier: PixelClassifier,
    rng: np.random.Generator,
) -> dict[str, float]:
    rgb, truth = _load(arguments.data, name)
    sure = classifier.probability(rgb)
    row = {"raw": _iou(_without_specks(sure >= CUT), truth)}
    paths = _paths(truth, arguments.reach)
    # A loose stroke needs no care and no zoom, so it may follow a crack to its end.
    roads = [_road(path, truth.shape) for path in _paths(truth, max(truth.shape) * 4)]
    for slip in arguments.slip:
        strokes = [_stroke(path, truth, slip, rng) for path in paths]
        hand = np.logical_or.reduce(strokes)
        row[f"hand_iou_{slip}"] = _iou(hand, truth)
        row[f"hand_strokes_{slip}"] = len(strokes)
        count, reached = _correct(sure, truth, strokes, roads, row[f"hand_iou_{slip}"])
        row[f"proposal_strokes_{slip}"] = count if reached else 1 + len(strokes)
        row[f"reached_{slip}"] = reached
    return row


def _correct(
    sure: np.ndarray,
    truth: np.ndarray,
    strokes: list[np.ndarray],
    roads: list[np.ndarray],
    goal: float,
) -> tuple[int, bool]:
    """Greedy corrections: how many strokes, accepting included, and whether the goal is reached."""
    # The boldness is chosen by eye before anything else; each press of [ or ] counts.
    presses = range(-MOST_PRESSES, MOST_PRESSES + 1)
    starts = [_without_specks(sure >= CUT - press * PRESS) for press in presses]
    reached = []
    for press, mask in zip(presses, starts, strict=True):
        count, done = _touch_up(mask, sure, truth, strokes, roads, goal, CUT - press * PRESS)
        reached.append((not done, 1 + abs(press) + count))
    failed, count = min(reached)
    return count, not failed


def _touch_up(
    mask: np.ndarray,
    sure: np.ndarray,
    truth: np.ndarray,
    strokes: list[np.ndarray],
    roads: list[np.ndarray],
    goal: float,
    cut: float,
) -> tuple[int, bool]:
    count = 0
    while (now := _iou(mask, truth)) < goal:
        numbered, _ = ndimage.label(mask, EIGHT)
        wrong = [n for n in range(1, numbered.max() + 1) if truth[numbered == n].mean() < 0.3]
        options = [mask & (numbered != n) for n in wrong]
        options += [mask | stroke for stroke in strokes]
        options += [mask | ((sure >= cut / 2) & road) for road in roads]
        gains = [_iou(option, truth) for option in options]
        if not gains or max(gains) <= now or count > 3 * len(strokes) + 3:
            return count, False
        mask, count = options[int(np.argmax(gains))], count + 1
    return count, True


def _road(path: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The neighbourhood of a loose stroke along a path."""
    line = np.ones(shape, bool)
    line[tuple(path.T)] = False
    return ndimage.distance_transform_edt(line) <= LOOSE


def _paths(truth: np.ndarray, reach: int) -> list[np.ndarray]:
    """The centre line as paths of (y, x), longest first, none longer than ``reach`` px."""
    left, found = skeletonize(truth), []
    while left.any():
        numbered, count = ndimage.label(left, EIGHT)
        for number in range(1, count + 1):
            part = numbered == number
            path = _longest(part)
            for y, x in path:
                left[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] &= False
            if len(path) >= 5 or (count == 1 and not found):
                found += [path[i : i + reach] for i in range(0, len(path), reach)]
    return sorted(found, key=len, reverse=True)


def _longest(part: np.ndarray) -> np.ndarray:
    start = tuple(np.argwhere(part)[0])
    far, _ = _walk(part, start)
    end, before = _walk(part, far)
    path = [end]
    while path[-1] != far:
        path.append(before[path[-1]])
    return np.array(path)


def _walk(part: np.ndarray, start: tuple[int, ...]) -> tuple[tuple[int, ...], dict]:
    before, queue, last = {start: start}, deque([start]), start
    while queue:
        last = y, x = queue.popleft()
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                at = (y + dy, x + dx)
                inside = 0 <= at[0] < part.shape[0] and 0 <= at[1] < part.shape[1]
                if inside and part[at] and at not in before:
                    before[at] = last
                    queue.append(at)
    return last, before


def _stroke(
    path: np.ndarray, truth: np.ndarray, slip: float, rng: np.random.Generator
) -> np.ndarray:
    """What the brush marks along a path."""
    depth = ndimage.distance_transform_edt(truth)[tuple(path.T)]
    radius = max(0.5, float(np.median(depth)) - 0.5 + 0.25)
    points = path.astype(float)
    if slip:
        stray = ndimage.gaussian_filter1d(rng.normal(size=points.shape), 6, axis=0, mode="nearest")
        points += slip * stray / max(1e-9, stray.std())
    line = np.ones(truth.shape, bool)
    for (ay, ax), (by, bx) in pairwise(points):
        for t in (0.0, 0.5, 1.0):
            y, x = np.rint([ay + t * (by - ay), ax + t * (bx - ax)]).astype(int)
            if 0 <= y < line.shape[0] and 0 <= x < line.shape[1]:
                line[y, x] = False
    return ndimage.distance_transform_edt(line) <= radius


def _without_specks(mask: np.ndarray) -> np.ndarray:
    numbered, _ = ndimage.label(mask, EIGHT)
    return mask & (np.bincount(numbered.ravel())[numbered] >= SMALLEST)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    means = {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}
    for name in [n for n in means if n.startswith("hand_strokes")]:
        slip = name.rsplit("_", 1)[1]
        means[f"ratio_{slip}"] = round(means[f"proposal_strokes_{slip}"] / means[name], 3)
    return means


if __name__ == "__main__":
    main()
