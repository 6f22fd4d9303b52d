"""Measure finished crack models on photographs that nothing about them was chosen on.

    python benchmarks/check_models.py MODEL.onnx --metu METU --cfd CFD --crack500 CRACK500
                                      [--out FILE.json] [--overlays FOLDER]

METU: test groups, whole images of 227×227; an image counts as crack if one of its overlapping tiles
reaches the model's tile threshold; beside it, on how many the map marks anything. CFD and Crack500:
all photos (no model of ours trains on them); tiles side by side, crack from 1 % of crack pixels on,
clean without any, the rest left out; and the map of each whole photo, merged from tiles that
overlap by half, at the model's own thresholds.
Intervals are 95 %, by photograph.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image
from scipy import ndimage

from finicky.data.crops import Crop
from finicky.data.splits import read_split_csv
from finicky.evaluation import bootstrap_metrics
from finicky.evaluation.pixels import STEPS, f1_interval, pixel_curve, quality_at, sum_curves
from finicky.export import read_metadata
from finicky.files import write_json
from finicky.images import read_image
from finicky.mapping import MapThresholds, binary, padded, photo_maps
from finicky.project import Project
from finicky.sweep import SweepSettings
from finicky.sweep.inputs import gather_evidence
from finicky.tiling import tile_origins

LEAST = 0.01


class Model:
    """An exported file, its thresholds and how to run it."""

    def __init__(self, path: Path) -> None:
        self.note = read_metadata(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.size = int(self.note["tile_px"])
        limits = self.note["thresholds"]
        self.tile_threshold = float(limits["tile"])
        self.limits = MapThresholds(limits["map_high"], limits["map_low"])
        self.least_area = float(limits.get("min_area_px", 0))

    def probabilities(self, tiles: np.ndarray) -> np.ndarray:
        found = [
            self.session.run(["probabilities"], {"tiles": tiles[i : i + 32]})[0][:, 1]
            for i in range(0, len(tiles), 32)
        ]
        return np.concatenate(found)

    def map(self, photo: np.ndarray) -> np.ndarray:
        def run(tiles: np.ndarray) -> list[np.ndarray]:
            return [self.session.run(["map"], {"tiles": tiles})[0]]

        return photo_maps(photo, run, size=self.size)[0]

    def marked(self, photo: np.ndarray) -> np.ndarray:
        """``(H, W)`` bool: the map's regions that count."""
        found = binary(self.map(photo), self.limits)
        regions, count = ndimage.label(found, np.ones((3, 3)))
        area = np.bincount(regions.reshape(-1), minlength=count + 1)
        area[0] = 0
        return np.asarray(found & (area >= self.least_area)[regions])

    def tiles(self, photo: np.ndarray, stride: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
        places = tile_origins(photo.shape[1], photo.shape[0], self.size, stride)
        side = self.size
        return np.stack([photo[y : y + side, x : x + side] for x, y in places]), places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--metu", type=Path)
    parser.add_argument("--cfd", type=Path)
    parser.add_argument("--crack500", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--overlays", type=Path)
    options = parser.parse_args()
    model = Model(options.model)
    found: dict[str, Any] = {}
    if options.metu:
        found["METU test"] = check_metu(model, options.metu)
    for name in ("cfd", "crack500"):
        folder = getattr(options, name)
        if folder:
            found[name.upper() if name == "cfd" else "Crack500"] = check_photos(
                model, folder, options.overlays
            )
    print(json.dumps(found, indent=1))
    if options.out:
        write_json(options.out, found)


def check_metu(model: Model, folder: Path) -> dict[str, Any]:
    """Images of test groups: the highest of the overlapping tiles' probabilities."""
    listed = read_split_csv(folder / "split.csv")
    labels, scores, groups, marked = [], [], [], []
    for path in sorted([*folder.glob("crack/*.jpg"), *folder.glob("background/*.jpg")]):
        split, group = listed[path.relative_to(folder).as_posix()]
        if split == "test":
            photo = read_image(path)
            tiles, _ = model.tiles(photo, model.size // 2)
            labels.append(int(path.parent.name == "crack"))
            scores.append(float(model.probabilities(tiles).max()))
            groups.append(group)
            marked.append(bool(model.marked(photo).any()))
    share = {
        name: float(
            np.mean([m for m, label in zip(marked, labels, strict=True) if label == wanted])
        )
        for name, wanted in (("marked_crack", 1), ("marked_background", 0))
    }
    return _classified(model, labels, scores, groups) | share


def check_photos(model: Model, folder: Path, overlays: Path | None) -> dict[str, Any]:
    """Tiles and map of every photo that has a mask."""
    project = Project.open(folder)
    evidence = gather_evidence(project, SweepSettings())
    labels: list[int] = []
    scores: list[float] = []
    groups: list[str] = []
    curves = []
    for crop in _photos(project, evidence):
        tiles, places = model.tiles(crop.photo, model.size)
        for (x, y), p in zip(places, model.probabilities(tiles), strict=True):
            share = (crop.mask[y : y + model.size, x : x + model.size] == 1).mean()
            if share == 0 or share >= LEAST:
                labels.append(int(share > 0))
                scores.append(float(p))
                groups.append(crop.group)
        found = model.marked(crop.photo)
        curves.append(pixel_curve(found.astype(float), crop.mask))
        if overlays and len(curves) % 12 == 1:
            _draw(overlays / f"{folder.name}-{Path(crop.key).stem}.jpg", crop, found)
    total = quality_at(sum_curves(curves), STEPS // 2)
    low, high = f1_interval(curves, STEPS // 2)
    return _classified(model, labels, scores, groups) | {
        "photos": len(curves),
        "pixel": asdict(total) | {"f1_low": low, "f1_high": high},
    }


def _photos(project: Project, evidence: Any) -> list[Crop]:
    from pixel_maps import whole_photos

    return [
        padded(crop, SweepSettings().tile)
        for crops in whole_photos(project, evidence).values()
        for crop in crops
    ]


def _classified(
    model: Model, labels: Sequence[int], scores: Sequence[float], groups: Sequence[str]
) -> dict[str, Any]:
    """Metrics at the model's tile threshold, each with its interval."""
    y, p = np.array(labels), np.array(scores)
    # The metrics cut at 0.5: move the threshold there, keeping the order of the scores.
    t = model.tile_threshold
    moved = np.where(p >= t, 0.5 + (p - t) / (1 - t) / 2, p / t / 2 * (1 - 1e-9))
    found = bootstrap_metrics(y, moved, np.array(groups))
    return {"positive": int(y.sum()), "negative": int((1 - y).sum())} | {
        name: [found[name].value, found[name].low, found[name].high]
        for name in ("balanced_accuracy", "f1", "recall", "precision", "auroc")
    }


def _draw(path: Path, crop: Crop, found: np.ndarray) -> None:
    picture = crop.photo.copy()
    picture[found] = (picture[found] * 0.3 + np.array([255, 60, 0]) * 0.7).astype(np.uint8)
    truth = crop.photo.copy()
    truth[crop.mask == 1] = (0, 200, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.hstack([crop.photo, truth, picture])).save(path, quality=85)


if __name__ == "__main__":
    main()
