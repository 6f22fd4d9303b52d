"""From a backbone to one small, trained, exported crack model; each step is kept and not redone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finicky.backbones import Backbone, load_backbone
from finicky.data.crops import Crop
from finicky.data.marked import cut_marked
from finicky.data.pairs import Pair, load_pair
from finicky.evaluation import METRICS, bootstrap_metrics, score_predictions
from finicky.export import Classifier, export_map
from finicky.files import read_json, write_json
from finicky.importance import TileOptions
from finicky.mapping import OVERLAP, TrainedMap, train_map
from finicky.masks import IGNORE, target_mask
from finicky.progress import Progress, silent
from finicky.project import Project
from finicky.pruning import count, cut, restore, save_pruned
from finicky.ranking import rank
from finicky.spool import Spool
from finicky.sweep import SweepSettings
from finicky.sweep.inputs import Evidence, gather_evidence
from finicky.training import LogisticHead, Reconstructor, extract, train_head
from finicky.training.tuning import (
    FinetuneSettings,
    MarkedTiles,
    SurfaceAugmentation,
    Trained,
    finetune,
)

FEATURES = "mean+max"
# Roads and cameras that nobody has photographed for us: further than the default goes.
AUGMENTATION = SurfaceAugmentation(scale=1.6, contrast=0.4, brightness=40, blur=0.3, noise=10)
RECONSTRUCTED_TILES = 384
MOST_MAP_PHOTOS = {"train": 90, "validation": 50, "test": 50}


@dataclass(frozen=True)
class Recipe:
    """How one model is made.

    Attributes:
        backbone: Name or folder.
        keep: Keep ratio; small enough for a file below 1.5 MB.
        scored: Photos that filters are scored on.
        epochs: Of training after the cut.
        rate: Of that training.
    """

    backbone: str
    keep: float
    scored: int
    epochs: int
    rate: float = 0.003


@dataclass(frozen=True)
class Material:
    """Photos of the project, and tiles with masks of each split."""

    project: Project
    evidence: Evidence
    tile: int

    def pairs(self, split: str, most: int | None = None, *, only: str = "") -> list[Pair]:
        """Photos of a split, at most so many, spread over all of them."""
        splits = self.evidence.splits
        pairs = [
            p for p in self.evidence.usable if splits[p.key][0] == split and p.key.startswith(only)
        ]
        if most is None or len(pairs) <= most:
            return pairs
        return [pairs[i] for i in np.linspace(0, len(pairs) - 1, most).astype(int)]

    def tiles(self, split: str, *, stride: int, per_photo: int) -> tuple[MarkedTiles, np.ndarray]:
        """Tiles with masks, and the photograph of each."""
        found = cut_marked(
            self.pairs(split),
            classes=self.project.classes,
            targets=self.evidence.targets,
            splits=self.evidence.splits,
            tile=self.tile,
            stride=stride,
            per_photo=per_photo,
        )
        return MarkedTiles(found.tiles, found.labels, found.masks), found.groups

    def crops(self, split: str, most: int | None = None, *, only: str = "") -> list[Crop]:
        """Whole photos with masks, at most so many of those whose key begins with ``only``."""
        found = []
        for pair in self.pairs(split, most, only=only):
            photo, ids = load_pair(pair, self.project.classes)
            mask = np.where(ids == IGNORE, IGNORE, target_mask(ids, self.evidence.targets))
            group = self.evidence.splits[pair.key][1]
            found.append(Crop(photo, mask.astype(np.uint8), split, group, pair.key))  # type: ignore[arg-type]
        return found


def open_material(folder: Path, tile: int) -> Material:
    """Of a project that `make_project` wrote."""
    project = Project.open(folder)
    return Material(project, gather_evidence(project, SweepSettings(tile=tile)), tile)


def cut_network(recipe: Recipe, material: Material, out: Path, progress: Progress = silent) -> None:
    """Score on training photos, cut, and repair where that is better on validation."""
    if (out / "plan.json").is_file():
        return
    backbone = load_backbone(recipe.backbone)
    ranking = rank(
        backbone,
        material.pairs("train", recipe.scored),
        classes=material.project.classes,
        targets=material.evidence.targets,
        round_to=16,
        tiles=TileOptions(size=material.tile, per_photo=3),
        progress=progress,
    )
    plan = ranking.plan(recipe.keep)
    train, groups = material.tiles("train", stride=material.tile, per_photo=1)
    held_out, _ = material.tiles("validation", stride=material.tile, per_photo=2)
    plain = cut(backbone.module, plan.decisions, material.tile)
    repaired = cut(backbone.module, plan.decisions, material.tile)
    some = np.random.default_rng(0).permutation(len(train.tiles))[:RECONSTRUCTED_TILES]
    inputs = backbone.preprocessing(torch.from_numpy(train.tiles[np.sort(some)]))
    Reconstructor(backbone, inputs, progress=progress).apply(repaired, plan.kept)
    tried = {}
    for name, module in (("none", plain), ("reconstruct", repaired)):
        smaller = backbone.with_module(module)
        tried[name] = (_start_score(smaller, train, groups, held_out), smaller)
    best = max(tried, key=lambda name: tried[name][0])
    print({name: round(score, 3) for name, (score, _) in tried.items()}, flush=True)
    save_pruned(tried[best][1], plan, out, size=material.tile)
    write_json(
        out / "cut.json",
        {
            "repair": best,
            "tried": {name: score for name, (score, _) in tried.items()},
            "full_params": count(backbone.module, material.tile).params,
            "params": count(tried[best][1].module, material.tile).params,
        },
    )


def train_network(
    recipe: Recipe, material: Material, out: Path, progress: Progress = silent
) -> tuple[Backbone, LogisticHead]:
    """Head and cut network together, with the masks as second teacher."""
    backbone, plan = restore(out)
    if not (out / "tuned" / "plan.json").is_file():
        train, _ = material.tiles("train", stride=material.tile // 2, per_photo=4)
        held_out, _ = material.tiles("validation", stride=material.tile, per_photo=3)
        print(f"{len(train.labels)} tiles to train on, {len(held_out.labels)} held out", flush=True)
        trained: Trained = finetune(
            backbone,
            train,
            held_out,
            FinetuneSettings(
                epochs=recipe.epochs, rate=recipe.rate, patience=50, augmentation=AUGMENTATION
            ),
            checkpoint=out / "checkpoint.safetensors",
            progress=progress,
        )
        trained.head.save(out / "tuned" / "head.safetensors")
        write_json(
            out / "tuned" / "training.json",
            {
                "epochs": len(trained.validation) - 1,
                "best_epoch": trained.best_epoch,
                "validation": list(trained.validation),
                "tiles": len(train.labels),
                "seconds": trained.seconds,
            },
        )
        save_pruned(trained.backbone, plan, out / "tuned", size=material.tile)
    backbone, _ = restore(out / "tuned")
    return backbone, LogisticHead.load(out / "tuned" / "head.safetensors")


def export_network(
    name: str, recipe: Recipe, material: Material, out: Path, progress: Progress = silent
) -> None:
    """``model.onnx`` with a map, and ``model.json`` with what validation and own test say."""
    if (out / "model.json").is_file():
        return
    backbone, head = train_network(recipe, material, out, progress)
    mapped: TrainedMap = train_map(
        backbone,
        *(material.crops(split, most) for split, most in MOST_MAP_PHOTOS.items()),
        size=material.tile,
        progress=progress,
    )
    target = material.evidence.targets[0]
    held_out, _ = material.tiles("validation", stride=material.tile, per_photo=2)
    exported = export_map(
        lambda pixels: Classifier(backbone, FEATURES, head, pixels),
        mapped.head,
        (mapped.thresholds.high, mapped.thresholds.low),
        out / "model.onnx",
        size=material.tile,
        class_names=(f"not {target.name}", target.name),
        tiles=held_out.tiles[:48],
        metadata={
            "name": name,
            "backbone": Path(recipe.backbone).name,
            "method": "finicky",
            "keep_ratio": recipe.keep,
            "provenance": backbone.provenance.to_json(),
            "target": {"id": target.id, "name": target.name, "colour": target.color},
            "thresholds": {"tile": 0.5},
            "overlap": OVERLAP,
            "mm_per_px": None,
        },
    )
    write_json(
        out / "model.json",
        {
            **read_json(out / "cut.json"),
            "training": read_json(out / "tuned" / "training.json"),
            "map": mapped.to_json() | {"flattened": exported.flattened},
            "parity": asdict(exported.parity),
        },
    )


def own_quality(material: Material, ask: Any, threshold: float) -> dict[str, Any]:
    """Metrics of validation and own test tiles, each with its interval."""
    found = {}
    for split in ("validation", "test"):
        tiles, groups = material.tiles(split, stride=material.tile, per_photo=3)
        scores = bootstrap_metrics(tiles.labels, ask(tiles.tiles), groups, threshold=threshold)
        found[split] = {
            metric: [scores[metric].value, scores[metric].low, scores[metric].high]
            for metric in METRICS
        }
    return found


def _start_score(
    backbone: Backbone, train: MarkedTiles, groups: np.ndarray, held_out: MarkedTiles
) -> float:
    """Balanced accuracy on validation of a head on frozen features."""
    with Spool() as spool:
        head = train_head(
            extract(backbone, train.tiles, spool, kind=FEATURES), train.labels, groups
        )
    with Spool() as spool:
        found = head.probabilities(extract(backbone, held_out.tiles, spool, kind=FEATURES))
    return score_predictions(held_out.labels, found).balanced_accuracy


__all__: Sequence[str] = (
    "Material",
    "Recipe",
    "cut_network",
    "export_network",
    "open_material",
    "own_quality",
    "train_network",
)
