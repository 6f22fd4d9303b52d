"""Maps finer than a tile on real photos: pixel F1 (2 px tolerance) and IoU, and what they cost.

    python benchmarks/pixel_maps.py DATA [--keeps 0.05,0.1,1] [--seeds 0,1,2] [--tile 96]
                                    [--out docs/evidence/pixel-maps.csv]

DATA holds ``images``, ``masks`` and ``split.csv``. Filters are scored and the pixel head is fitted
on training photos; taps and thresholds are chosen on validation photos carved out of them by group;
each figure is of all test photos, whole, merged from tiles that overlap by half, all pixels taken
together. Keep 1 is the unpruned network under the same head. ``classic`` has no network: how much
darker a pixel is than its surroundings, or than the photo, whichever is better on validation, with
the same choice of thresholds. Seeds draw validation photos, places and weights anew.

Latency is of one tile, batch 1, one thread, ONNX Runtime: the file with the map and the file
without, measured in turn.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from finicky.backbones import Backbone, load_backbone
from finicky.data.crops import Crop
from finicky.data.pairs import load_pair
from finicky.data.splits import SPLITS
from finicky.evaluation.pixels import STEPS, f1_interval, pixel_curve, quality_at, sum_curves
from finicky.export import Classifier, export_onnx
from finicky.mapping import MapThresholds, binary, choose_thresholds, train_map
from finicky.masks import IGNORE, target_mask
from finicky.project import Project
from finicky.pruning import count, cut
from finicky.ranking import rank
from finicky.sweep import SweepSettings
from finicky.sweep.inputs import Evidence, gather_evidence
from finicky.timing import environment, measure_in_turn
from finicky.training import Features, LogisticHead, PixelHead, PixelSettings

COLUMNS = (
    *("data", "seed", "what", "params", "map_px", "taps"),
    *("val_f1", "f1", "f1_low", "f1_high", "precision", "recall", "iou"),
    *("without_ms", "with_ms", "ratio", "seconds"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--keeps", default="0.05,0.1,1")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--tile", type=int, default=96)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(environment())
    keeps = [float(keep) for keep in options.keeps.split(",") if keep]
    for seed in map(int, options.seeds.split(",")):
        settings = SweepSettings(backbone=options.backbone, tile=options.tile, seed=seed)
        for row in measure(options.data, settings, keeps):
            print(row, flush=True)
            if options.out:
                _append(options.out, row)


def measure(data: Path, settings: SweepSettings, keeps: list[float]) -> Iterator[dict[str, Any]]:
    """One row for the classic baseline and one a keep ratio."""
    project = Project.open(data)
    evidence = gather_evidence(project, settings)
    photos = whole_photos(project, evidence)
    start = {"data": data.name, "seed": settings.seed}
    yield start | {"what": "classic"} | classic(photos["validation"], photos["test"])
    full = load_backbone(settings.backbone)
    ranking = rank(
        full,
        evidence.scoring,
        classes=project.classes,
        targets=evidence.targets,
        method="finicky",
        criterion_name=settings.criterion,
        round_to=settings.round_to,
    )
    for keep in keeps:
        begun = time.monotonic()
        backbone = full
        if keep < 1:
            module = cut(full.module, ranking.plan(keep).decisions, settings.tile)
            backbone = full.with_module(module)
        trained = train_map(
            backbone,
            *(photos[split] for split in SPLITS),
            size=settings.tile,
            settings=PixelSettings(seed=settings.seed),
        )
        assert trained.test is not None and trained.test_f1_interval is not None
        yield start | {
            "what": f"keep {keep:g}",
            "params": count(backbone.module, settings.tile).params,
            "map_px": trained.head.map_px,
            "taps": len(trained.head.taps),
            "val_f1": trained.validation.f1,
            **_low_high(trained.test_f1_interval),
            **asdict(trained.test),
            **latency(backbone, trained.head, photos["test"], settings.tile),
            "seconds": time.monotonic() - begun,
        }


def whole_photos(project: Project, evidence: Evidence) -> dict[str, list[Crop]]:
    """Every photo with its mask, by split."""
    found: dict[str, list[Crop]] = {split: [] for split in SPLITS}
    for pair in evidence.usable:
        split, group = evidence.splits[pair.key]
        photo, ids = load_pair(pair, project.classes)
        mask = np.where(ids == IGNORE, IGNORE, target_mask(ids, evidence.targets))
        found[split].append(Crop(photo, mask.astype(np.uint8), split, group, pair.key))
    return found


def classic(validation: Sequence[Crop], test: Sequence[Crop]) -> dict[str, Any]:
    """Darkness against the surroundings (25 px) or the photo: the better on validation."""
    found = []
    for local in (True, False):
        maps = [_darkness(crop.photo, local) for crop in validation]
        curve = sum_curves([pixel_curve(m, c.mask) for m, c in zip(maps, validation, strict=True)])
        thresholds = choose_thresholds(maps, validation, curve)
        found.append((_f1(maps, validation, thresholds), local, thresholds))
    best, local, thresholds = max(found)
    maps = [_darkness(crop.photo, local) for crop in test]
    curves = [
        pixel_curve(binary(m, thresholds).astype(float), c.mask)
        for m, c in zip(maps, test, strict=True)
    ]
    quality = quality_at(sum_curves(curves), STEPS // 2)
    return {
        "taps": "local" if local else "global",
        "val_f1": best,
        **asdict(quality),
        **_low_high(f1_interval(curves, STEPS // 2)),
    }


def _darkness(photo: np.ndarray, local: bool) -> np.ndarray:
    grey = ndimage.gaussian_filter(photo.astype(float).mean(2), 1.0)
    around = ndimage.gaussian_filter(grey, 25.0, mode="reflect") if local else np.median(grey)
    depth = (around - grey) / (np.std(grey) + 1e-6)
    return np.clip(depth / 6, 0, 1)


def _f1(maps: Sequence[np.ndarray], crops: Sequence[Crop], thresholds: MapThresholds) -> float:
    curves = [
        pixel_curve(binary(m, thresholds).astype(float), c.mask)
        for m, c in zip(maps, crops, strict=True)
    ]
    return float(sum_curves(curves).f1[STEPS // 2])


def latency(
    backbone: Backbone, head: PixelHead, photos: Sequence[Crop], size: int
) -> dict[str, float]:
    """p50 of the file without and with the map, in turn, and their ratio."""
    tile = np.ascontiguousarray(photos[0].photo[:size, :size])[None]
    channels = _channels(backbone, size)
    weight = np.random.default_rng(0).normal(0, 1e-3, 2 * channels).astype(np.float32)
    logistic = LogisticHead(weight, 0.0, 1.0, float("nan"))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("without.onnx", "with.onnx")]
        for path, pixels in zip(paths, (None, head), strict=True):
            export_onnx(
                Classifier(backbone, "mean+max", logistic, pixels),
                path,
                size=size,
                class_names=("not crack", "crack"),
                tiles=tile,
                metadata={},
                tolerance=1e-2,
                most_map=1.0,  # times only
            )
        report = measure_in_turn(
            paths[0], paths[1:], inputs=tile, threads=1, seconds_per_candidate=3
        )
    without, mapped = report.reference.p50_ms, report.candidates[0]
    return {
        "without_ms": without,
        "with_ms": mapped.stats.p50_ms,
        "ratio": 1 / mapped.ratio,
    }


def _channels(backbone: Backbone, size: int) -> int:
    import torch

    with torch.inference_mode():
        maps = backbone.module(torch.zeros(1, 3, size, size))
    return Features("mean")(maps).shape[1]


def _low_high(interval: tuple[float, float]) -> dict[str, float]:
    return {"f1_low": interval[0], "f1_high": interval[1]}


def _append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        plain = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
        writer.writerow(plain)


if __name__ == "__main__":
    main()
