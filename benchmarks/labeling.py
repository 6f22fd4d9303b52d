"""How much work proposals save a person who labels cracks: strokes per photo, at equal IoU.

The person is scripted. By hand they trace the reference mask's centre line in strokes of at most
``--reach`` px, with a hand that strays smoothly by ``--slip`` px (standard deviation) and a brush
as wide as the crack. With proposals they may drag the boldness slider once (1 stroke), accept (1
stroke), and then, as long as it helps, take away a wrong region, run a loose stroke along a missed
crack (drag adds what the learner half believes), redraw a piece of a proposal with their own
straying hand (Alt+drag) or trace one besides it (1 stroke each), until the mask is as good as their
own mask by hand. Where that is out of reach they undo and draw all of it by hand, at the price of 1
stroke more. They see at once which tool helps most; both ways of working assume such eyes.

How far does a hand stray? ``straying.py`` measures it: the reference masks' own centre lines stray
by 0.9 px from the darkest line of the crack that they follow. A scripted hand of 0.5 px follows
the centre line of the reference more closely than the annotators followed the crack.

    python benchmarks/labeling.py ../shared/data/cfd --backbone vgg16

Photos to learn from are drawn from the split `train` (with their reference masks) and learnt as
the labeler does it, photo by photo; photos to label come from the others, and nothing is tuned on
them: that was done with ``--tune``, on training photos that were not learnt from.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.morphology import skeletonize

from finicky.classes import DEFAULT_CLASSES
from finicky.data.pairs import Pair
from finicky.labeler.proposals.filters import BestFilters, load_quietly
from finicky.labeler.proposals.learner import PixelClassifier
from finicky.labeler.proposals.lessons import Lesson
from finicky.labeler.proposals.network import FIRST_STEPS, MORE_STEPS, PixelNetwork
from finicky.labeler.proposals.proposer import ENOUGH

# What the page marks before anybody has touched the slider, and drops as too small.
CUT, SMALLEST = 100 / 255, 20
# Where the boldness slider may be dragged to.
SLIDER = tuple(tenth / 10 for tenth in range(1, 8))
LOOSE = 6  # px to either side that a loose stroke reaches, and that a redrawn one clears
EIGHT = np.ones((3, 3), bool)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    learn, judge = _split(arguments)
    backbone, problem = load_quietly(arguments.backbone)
    if problem:
        raise SystemExit(problem)
    learner = _forests if arguments.forests else _network
    for count, classifier, seconds in learner(arguments, learn, backbone):
        rows = [_label(arguments, name, classifier) for name in judge]
        result = {"learnt_from": count, "seconds": round(seconds, 1), **_summary(rows)}
        print(json.dumps(result), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with images/, masks/ and split.csv")
    parser.add_argument("--learn", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--photos", type=int, default=30, help="photos to label")
    parser.add_argument("--backbone", default="")
    parser.add_argument("--forests", action="store_true", help="as where torch is missing")
    parser.add_argument("--tune", action="store_true", help="label other training photos")
    parser.add_argument("--seeds", type=int, default=3, help="hands per photo and slip")
    parser.add_argument("--slip", type=float, nargs="+", default=[0.5, 0.9], help="px")
    parser.add_argument("--reach", type=int, default=80, help="longest stroke, px")
    return parser.parse_args()


def _split(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    with (arguments.data / "split.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    learn = [row["image"] for row in rows if row["split"] == "train"]
    judge = [row["image"] for row in rows if row["split"] != "train"]
    np.random.default_rng(0).shuffle(learn)
    return learn, (learn[40:] if arguments.tune else judge)[: arguments.photos]


def _load(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    rgb = np.asarray(Image.open(data / "images" / name).convert("RGB"))
    mask = np.asarray(Image.open((data / "masks" / name).with_suffix(".png"))) > 0
    return rgb, mask


Learning = Iterator[tuple[int, PixelClassifier | PixelNetwork, float]]


def _lessons(data: Path, names: list[str]) -> list[Lesson]:
    pairs = [_load(data, name) for name in names]
    return [Lesson(rgb, mask.astype(np.uint8), np.ones_like(mask)) for rgb, mask in pairs]


def _filters(data: Path, names: list[str], backbone: object) -> BestFilters | None:
    if backbone is None:
        return None
    pairs = [
        Pair(name, data / "images" / name, (data / "masks" / name).with_suffix(".png"))
        for name in names
    ]
    return BestFilters(backbone, pairs, DEFAULT_CLASSES, DEFAULT_CLASSES.targets())


def _forests(arguments: argparse.Namespace, learn: list[str], backbone: object) -> Learning:
    for count in arguments.learn:
        started = time.monotonic()
        filters = _filters(arguments.data, learn[:count], backbone)
        extra = filters.features if filters else None
        classifier = PixelClassifier(_lessons(arguments.data, learn[:count]), extra=extra)
        yield count, classifier, time.monotonic() - started


def _network(arguments: argparse.Namespace, learn: list[str], backbone: object) -> Learning:
    """As the labeler does it: from the third photo on, a little more after each one."""
    lessons = _lessons(arguments.data, learn[: max(arguments.learn)])
    filters = _filters(arguments.data, learn[:ENOUGH], backbone)
    network = PixelNetwork((1,), extra=(filters.features, len(filters.chosen)) if filters else None)
    seconds = 0.0
    for count in range(ENOUGH, max(arguments.learn) + 1):
        started = time.monotonic()
        steps = MORE_STEPS if network.steps else FIRST_STEPS
        network = network.taught(lessons[:count], steps=steps)
        seconds += time.monotonic() - started
        if count in arguments.learn:
            yield count, network, seconds


def _label(
    arguments: argparse.Namespace, name: str, classifier: PixelClassifier | PixelNetwork
) -> dict[str, float]:
    rgb, truth = _load(arguments.data, name)
    sure = classifier.probability(rgb)[0]
    row = {"raw": _iou(_without_specks(sure >= CUT), truth)}
    row["raw_best_slider"] = max(_iou(_without_specks(sure >= cut), truth) for cut in SLIDER)
    # What no correction of wrong regions and of gaps gets beyond: each photo's best threshold with
    # nothing wrong in it but where edges lie.
    reachable = ndimage.binary_dilation(truth, iterations=LOOSE)
    row["raw_edges_only"] = max(_iou((sure >= cut) & reachable, truth) for cut in SLIDER)
    paths = _paths(truth, arguments.reach)
    # A loose stroke needs no care and no zoom, so it may follow a crack to its end.
    roads = [_road(path, truth.shape) for path in _paths(truth, max(truth.shape) * 4)]
    near = [_road(path, truth.shape) for path in paths]
    for slip in arguments.slip:
        tries = []
        for seed in range(arguments.seeds):
            rng = np.random.default_rng((int(Path(name).stem), seed))
            strokes = [_stroke(path, truth, slip, rng) for path in paths]
            tries.append(_work(sure, truth, Hand(strokes, near, roads)))
        for key in tries[0]:
            row[f"{key}_{slip}"] = float(np.mean([one[key] for one in tries]))
    return row


@dataclass(frozen=True)
class Hand:
    """What a person can draw: careful strokes, what lies near each, and loose ones."""

    strokes: list[np.ndarray]
    near: list[np.ndarray]
    roads: list[np.ndarray]


def _work(sure: np.ndarray, truth: np.ndarray, hand: Hand) -> dict[str, float]:
    goal = _iou(np.logical_or.reduce(hand.strokes), truth)
    count, reached = _correct(sure, truth, hand, goal)
    by_hand = len(hand.strokes)
    return {
        "hand_iou": goal,
        "hand_strokes": by_hand,
        "proposal_strokes": count if reached else 1 + by_hand,
        "reached": reached,
    }


def _correct(sure: np.ndarray, truth: np.ndarray, hand: Hand, goal: float) -> tuple[int, bool]:
    """Greedy corrections: how many strokes, accepting included, and whether the goal is reached."""
    reached = []
    for cut in (CUT, *SLIDER):  # the boldness is chosen by eye before anything else
        mask = _without_specks(sure >= cut)
        count, done = _touch_up(mask, sure, truth, hand, goal, cut)
        reached.append((not done, 1 + (cut != CUT) + count))
    failed, count = min(reached)
    return count, not failed


def _touch_up(
    mask: np.ndarray, sure: np.ndarray, truth: np.ndarray, hand: Hand, goal: float, cut: float
) -> tuple[int, bool]:
    loose = [(sure >= cut / 2) & road for road in hand.roads]
    count, most = 0, len(hand.strokes) + 1
    while (now := _iou(mask, truth)) < goal:
        numbered, regions = ndimage.label(mask, EIGHT)
        shares = ndimage.mean(truth, numbered, range(1, regions + 1)) if regions else []
        wrong = [number for number, share in enumerate(shares, start=1) if share < 0.3]
        options = [mask & (numbered != number) for number in wrong]
        options += [mask | line for line in (*hand.strokes, *loose)]
        options += [(mask & ~n) | s for s, n in zip(hand.strokes, hand.near, strict=True)]
        gains = [_iou(option, truth) for option in options]
        if not gains or max(gains) <= now or count > most:
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
    path: np.ndarray,
    truth: np.ndarray,
    slip: float,
    rng: np.random.Generator,
    centre: np.ndarray | None = None,
) -> np.ndarray:
    """What the brush marks along a path, as wide as the crack is there, or along ``centre``."""
    depth = ndimage.distance_transform_edt(truth)[tuple((path if centre is None else centre).T)]
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
