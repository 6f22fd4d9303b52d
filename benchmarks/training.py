"""Training after the cut: what each part brings, with few labelled photos for everything.

    python benchmarks/training.py ../shared/data/cfd --out FOLDER [--photos 5,20] [--seeds 0,1,2]
        [--regimes frozen,finetune,finetune+mask,scratch,scratch+mask,distil] [--validation-only]
    python benchmarks/training.py --table FOLDER docs/evidence/training.csv

A cell is a data set, a number of labelled photos, a seed and a regime. The seed draws the photos,
so that every seed has others; the same photos serve for scoring, masks and tiles alike, a quarter
of them for validation. Everything is chosen on these; test photographs are only reported. One JSON
file a cell: stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finicky.backbones import Backbone, load_backbone
from finicky.backbones.backbone import IMAGENET_RGB
from finicky.data.marked import MarkedCut, cut_marked
from finicky.data.pairs import Pair, find_pairs, usable_pairs
from finicky.data.splits import image_key, read_split_csv
from finicky.evaluation import bootstrap_metrics, score_predictions
from finicky.files import read_json, write_json
from finicky.importance import TileOptions
from finicky.project import Project
from finicky.pruning import cut
from finicky.ranking import rank
from finicky.spool import Spool
from finicky.training import (
    FinetuneSettings,
    LogisticHead,
    MarkedTiles,
    ReconstructionSettings,
    Reconstructor,
    Soft,
    extract,
    finetune,
    train_head,
)

REGIMES = ("unpruned", "none", "rescale", "reconstruct", "finetune", "finetune+mask", "scratch")
REGIMES += ("scratch+mask", "distil")
COLUMNS = ("data", "photos", "seed", "regime", "keep_ratio", "tile", "val_balanced_accuracy")
COLUMNS += ("val_brier", "balanced_accuracy", "low", "high", "auroc", "best_epoch", "seconds")


@dataclass(frozen=True)
class Options:
    """Conditions of all cells in a folder."""

    keep: float
    tile: int
    per_photo: int
    test_per_photo: int
    epochs: int
    steps: int
    rate: float
    scratch_rate: float
    mask_weight: float
    validation_only: bool


@dataclass(frozen=True)
class Answers:
    """What a trained network says of validation and test tiles."""

    validation: np.ndarray
    test: np.ndarray | None
    more: dict[str, Any]


class Bench:
    """What the cells of one data set, number of photos and seed share."""

    def __init__(self, data: Path, photos: int, seed: int, options: Options) -> None:
        self._seed, self._options = seed, options
        self._project = Project.open(data)
        self._targets = self._project.classes.targets(None)
        pairs = usable_pairs(
            find_pairs(self._project.photos, self._project.masks).pairs,
            self._project.classes,
            self._targets,
        ).usable
        assert self._project.split_file is not None
        listed = read_split_csv(self._project.split_file)
        self._where = {p.key: listed[image_key(p.key)] for p in pairs}
        learn = [p for p in pairs if self._where[p.key][0] != "test"]
        self.backbone = load_backbone("vgg16")
        self.train_pairs, self.val_pairs = self._draw(learn, photos)
        self.other_pairs = [p for p in learn if p not in self.train_pairs + self.val_pairs]
        self._test_pairs = [p for p in pairs if self._where[p.key][0] == "test"]
        grid, most = options.tile, options.per_photo
        self.train = self._cut(self.train_pairs, grid, most)
        self.dense = self._cut(self.train_pairs, grid // 2, 2 * most)
        self.validation = self._cut(self.val_pairs, grid, most)

    @cached_property
    def test(self) -> MarkedCut:
        return self._cut(self._test_pairs, self._options.tile, self._options.test_per_photo)

    @cached_property
    def plan(self) -> Any:
        ranking = rank(
            self.backbone,
            self.train_pairs,
            classes=self._project.classes,
            targets=self._targets,
            tiles=TileOptions(size=self._options.tile),
            seed=self._seed,
        )
        return ranking.plan(self._options.keep)

    @cached_property
    def reconstructor(self) -> Reconstructor:
        rows = np.random.default_rng(self._seed).permutation(len(self.dense.tiles))[:128]
        inputs = self.backbone.preprocessing(torch.from_numpy(self.dense.tiles[np.sort(rows)]))
        return Reconstructor(self.backbone, inputs, ReconstructionSettings(seed=self._seed))

    @cached_property
    def reconstructed(self) -> Backbone:
        module = cut(self.backbone.module, self.plan.decisions, 64)
        return self.backbone.with_module(self.reconstructor.apply(module, self.plan.kept))

    @cached_property
    def rescaled(self) -> Backbone:
        module = cut(self.backbone.module, self.plan.decisions, 64)
        return self.backbone.with_module(self.reconstructor.rescale(module, self.plan.kept))

    @cached_property
    def plain(self) -> Backbone:
        return self.backbone.with_module(cut(self.backbone.module, self.plan.decisions, 64))

    @cached_property
    def start(self) -> tuple[Backbone, LogisticHead]:
        """The repair that is better on validation, as ``finicky run`` does it."""
        found = []
        for backbone in (self.reconstructed, self.plain):
            head = self.head(backbone)
            score = self.score(head.probabilities(vectors(backbone, self.validation.tiles)))
            found.append((score.balanced_accuracy, backbone, head))
        best = max(found, key=lambda each: each[0])
        return best[1], best[2]

    def head(self, backbone: Backbone) -> LogisticHead:
        cut = self.train
        rows = vectors(backbone, cut.tiles)
        return train_head(rows, cut.labels, cut.groups, seed=self._seed)

    def score(self, answers: np.ndarray) -> Any:
        return score_predictions(self.validation.labels, answers)

    def frozen(self, backbone: Backbone, head: LogisticHead | None = None, **more: Any) -> Answers:
        head = head or self.head(backbone)
        test = None
        if not self._options.validation_only:
            test = head.probabilities(vectors(backbone, self.test.tiles))
        return Answers(head.probabilities(vectors(backbone, self.validation.tiles)), test, more)

    def tuned(self, *, fresh: bool, masks: bool, soft: Soft | None = None) -> Answers:
        options = self._options
        backbone, head = self.start
        if fresh:
            backbone = replace(backbone, preprocessing=IMAGENET_RGB)
        settings = FinetuneSettings(
            epochs=options.epochs,
            least_steps=options.steps,
            batch=16,
            patience=options.epochs,
            rate=options.scratch_rate if fresh else options.rate,
            mask_weight=options.mask_weight,
            seed=self._seed,
            fresh=fresh,
        )
        found = finetune(
            backbone,
            MarkedTiles(self.dense.tiles, self.dense.labels, self.dense.masks if masks else None),
            MarkedTiles(self.validation.tiles, self.validation.labels),
            settings,
            head=None if fresh else head,
            soft=soft,
        )
        curve = [round(v, 4) for v in found.validation]
        more = {"best_epoch": found.best_epoch, "curve": curve}
        return self.frozen(found.backbone, found.head, **more)

    def soft(self) -> Soft:
        """The unpruned network on the training tiles and on those of unlabelled photos."""
        others = self._cut(self.other_pairs[:40], self._options.tile, 4)
        head = self.head(self.backbone)
        labelled, answers = (
            head.probabilities(vectors(self.backbone, tiles))
            for tiles in (self.dense.tiles, others.tiles)
        )
        return Soft(labelled, others.tiles, answers)

    def measure(self, regime: str) -> Answers:
        kinds: dict[str, Callable[[], Answers]] = {
            "unpruned": lambda: self.frozen(self.backbone),
            "none": lambda: self.frozen(self.plain),
            "rescale": lambda: self.frozen(self.rescaled),
            "reconstruct": lambda: self.frozen(self.reconstructed),
            "finetune": lambda: self.tuned(fresh=False, masks=False),
            "finetune+mask": lambda: self.tuned(fresh=False, masks=True),
            "scratch": lambda: self.tuned(fresh=True, masks=False),
            "scratch+mask": lambda: self.tuned(fresh=True, masks=True),
            "distil": lambda: self.tuned(fresh=False, masks=True, soft=self.soft()),
        }
        return kinds[regime]()

    def _draw(self, pairs: list[Pair], photos: int) -> tuple[list[Pair], list[Pair]]:
        """Groups at random, until training and validation hold tiles of both kinds."""
        random = np.random.default_rng([self._seed, photos])
        groups = sorted({self._where[p.key][1] for p in pairs})
        held = max(1, round(photos / 4))
        for _ in range(1000):
            chosen = random.permutation(groups)[:photos]
            parts = [
                [next(p for p in pairs if self._where[p.key][1] == group) for group in some]
                for some in (chosen[held:], chosen[:held])
            ]
            if all(
                self._holds_both(part, least) for part, least in zip(parts, (2, 1), strict=True)
            ):
                return parts[0], parts[1]
        raise SystemExit(f"no draw of {photos} photos holds both kinds of tiles")

    def _holds_both(self, pairs: list[Pair], least: int) -> bool:
        found = self._cut(pairs, self._options.tile, 1)
        return all(len(set(found.groups[found.labels == c])) >= least for c in (0, 1))

    def _cut(self, pairs: list[Pair], stride: int, most: int) -> MarkedCut:
        return cut_marked(
            pairs,
            classes=self._project.classes,
            targets=self._targets,
            splits=self._where,
            tile=self._options.tile,
            stride=stride,
            per_photo=most,
            seed=self._seed if pairs != getattr(self, "_test_pairs", None) else 0,
        )


def vectors(backbone: Backbone, tiles: np.ndarray) -> np.ndarray:
    with Spool() as spool:
        return np.array(extract(backbone, tiles, spool, kind="mean+max"))


def row_of(bench: Bench, found: Answers, seconds: float) -> dict[str, Any]:
    held = bench.score(found.validation)
    wrong = (found.validation - bench.validation.labels) ** 2
    row = {
        "val_balanced_accuracy": round(float(held.balanced_accuracy), 4),
        "val_brier": round(
            float(np.mean([wrong[bench.validation.labels == c].mean() for c in (0, 1)])), 4
        ),
        "train_tiles": len(bench.train.labels),
        "dense_tiles": len(bench.dense.labels),
        "val_tiles": len(bench.validation.labels),
        "seconds": round(seconds, 1),
        **found.more,
    }
    if found.test is not None:
        labels, groups = bench.test.labels, bench.test.groups
        whole = bootstrap_metrics(labels, found.test[None], groups, seed=0)
        value = whole["balanced_accuracy"]
        row |= {
            "balanced_accuracy": round(value.value, 4),
            "low": round(value.low, 4),
            "high": round(value.high, 4),
            "auroc": round(whole["auroc"].value, 4),
            "test_tiles": len(labels),
            "labels": labels.tolist(),
            "groups": groups.tolist(),
            "probabilities": [round(float(p), 5) for p in found.test],
        }
    return row


def write_table(folder: Path, out: Path) -> None:
    """All cells of a folder as one CSV."""
    rows = [read_json(path) for path in sorted(folder.glob("*.json"))]
    with out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--photos", default="5,20")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--regimes", default=",".join(REGIMES))
    parser.add_argument("--keep", type=float, default=0.1)
    parser.add_argument("--tile", type=int, default=96)
    parser.add_argument("--per-photo", type=int, default=6)
    parser.add_argument("--test-per-photo", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--scratch-rate", type=float, default=0.01)
    parser.add_argument("--mask-weight", type=float, default=1.0)
    parser.add_argument("--validation-only", action="store_true")
    parser.add_argument("--table", type=Path, nargs=2)
    given = parser.parse_args()
    if given.table:
        write_table(*given.table)
        return
    torch.set_num_threads(1)
    names = Options.__dataclass_fields__
    options = Options(**{name: getattr(given, name) for name in names})
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in map(int, given.seeds.split(",")):
        for photos in map(int, given.photos.split(",")):
            for data in given.data:
                run_cells(data, photos, seed, given.regimes.split(","), options, given.out)


def run_cells(
    data: Path, photos: int, seed: int, regimes: list[str], options: Options, out: Path
) -> None:
    files = {name: out / f"{data.name}_{photos}_{seed}_{name}.json" for name in regimes}
    missing = [name for name, path in files.items() if not path.is_file()]
    if not missing:
        return
    start = time.monotonic()
    bench = Bench(data, photos, seed, options)
    for regime in missing:
        found = bench.measure(regime)
        seconds = time.monotonic() - start
        row = row_of(bench, found, seconds)
        about = {"data": data.name, "photos": photos, "seed": seed, "regime": regime}
        write_json(files[regime], about | {"keep_ratio": options.keep, "tile": options.tile} | row)
        shown = row["val_balanced_accuracy"], row["val_brier"], row.get("balanced_accuracy")
        print(data.name, photos, seed, regime, *shown, row.get("curve"), f"{seconds:.0f} s")
        sys.stdout.flush()
        start = time.monotonic()


if __name__ == "__main__":
    main()
