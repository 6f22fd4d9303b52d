"""Candidates that are trained after the cut: fine-tuned, or the same shape from scratch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finicky.backbones import Backbone, Provenance
from finicky.backbones.backbone import IMAGENET_RGB
from finicky.data.marked import MarkedCut, cut_marked
from finicky.progress import Progress, silent
from finicky.project import Project
from finicky.sweep.folder import TRAINING
from finicky.sweep.inputs import Evidence, TileSet
from finicky.sweep.settings import SweepSettings
from finicky.sweep.training_kinds import SCRATCH
from finicky.training import FinetuneSettings, LogisticHead, MarkedTiles, Trained, finetune

MASK_HEAD = "mask_head.safetensors"
# Tiles in memory: 110 MB at 96 px, their masks 37 MB.
MOST_TILES = 4000
# Looked at after every epoch.
MOST_VALIDATION = 600


@dataclass(frozen=True)
class TrainingTiles:
    """What all trained candidates of a run learn from and choose their epoch on."""

    train: MarkedTiles
    validation: MarkedTiles


def training_tiles(
    project: Project,
    evidence: Evidence,
    data: TileSet,
    settings: SweepSettings,
    *,
    progress: Progress = silent,
) -> TrainingTiles:
    """Overlapping tiles of the training photos with their masks, and the tiles of validation.

    Args:
        project: Labelled photos.
        evidence: Which of them are for training.
        data: Tiles of the sweep; of these, those of validation are used.
        settings: Where these limit tiles a photo, overlapping ones are twice as many.
        progress: Told of each photo.
    """
    fitting = max(1, MOST_TILES // (2 * len(evidence.scoring)))
    asked = settings.tiles_per_photo
    most = fitting if asked is None else min(fitting, 2 * asked)
    found: MarkedCut = cut_marked(
        evidence.scoring,
        classes=project.classes,
        targets=evidence.targets,
        splits=evidence.splits,
        tile=settings.tile,
        stride=max(1, settings.tile // 2),
        min_coverage=settings.min_coverage,
        per_photo=most,
        seed=settings.seed,
        progress=progress,
    )
    held_out = np.random.default_rng(settings.seed).permutation(data.rows("validation"))
    rows = np.sort(held_out[:MOST_VALIDATION])
    return TrainingTiles(
        MarkedTiles(found.tiles, found.labels, found.masks),
        MarkedTiles(np.array(data.tiles[rows]), data.labels[rows]),
    )


def train_after_cut(
    kind: str,
    backbone: Backbone,
    head: LogisticHead,
    tiles: TrainingTiles,
    *,
    features: str,
    seed: int,
    time_s: float | None,
    here: Path,
    progress: Progress = silent,
) -> Trained:
    """Fine-tune a cut network, or train its shape from scratch.

    Args:
        kind: ``finetune`` or ``scratch``.
        backbone: Cut, and repaired if that was better.
        head: That its frozen features allow.
        tiles: To learn from.
        features: How the last map becomes a vector.
        seed: Of weights and order.
        time_s: As much work as fits into it, until nothing is gained; ``None``: a fixed amount.
        here: The candidate's folder. What an interrupted training goes on from lies outside, since
            of an unfinished candidate nothing is kept.
        progress: Told of every step.
    """
    fresh = kind == SCRATCH
    settings = FinetuneSettings(seed=seed, fresh=fresh, **_work(time_s))
    if fresh:
        # Nothing of the old weights is left that would expect another input.
        backbone = replace(backbone, preprocessing=IMAGENET_RGB)
    checkpoint = checkpoint_of(here)
    found = finetune(
        backbone,
        tiles.train,
        tiles.validation,
        settings,
        kind=features,  # type: ignore[arg-type]
        head=None if fresh else head,
        checkpoint=checkpoint,
        progress=progress,
    )
    if found.pixel_head is not None:
        found.pixel_head.save(here / MASK_HEAD)
    checkpoint.unlink(missing_ok=True)
    named = replace(found.backbone, provenance=_provenance(backbone.provenance, fresh))
    return replace(found, backbone=named)


def _work(time_s: float | None) -> dict[str, Any]:
    """How much is trained: 600 steps take one or two minutes where a tenth of VGG16 is left."""
    if time_s is None:
        return {"epochs": 24, "most_steps": 25}
    return {"epochs": 240, "most_steps": 25, "patience": 40, "time_s": time_s}


def checkpoint_of(here: Path) -> Path:
    """Where an interrupted training of a candidate goes on from."""
    return here.parent / TRAINING / f"{here.name}.safetensors"


def facts_of(trained: Trained) -> dict[str, Any]:
    """How training went, for ``metrics.json``."""
    return {
        "epochs": len(trained.validation) - 1,
        "best_epoch": trained.best_epoch,
        "stopped": trained.stopped,
        "seconds": round(trained.seconds, 1),
        "validation_brier": [round(value, 5) for value in trained.validation],
        "masks": trained.pixel_head is not None,
    }


def _provenance(old: Provenance, fresh: bool) -> Provenance:
    if fresh:
        return Provenance(
            "trained from scratch on the project's photos", "as the training photos allow"
        )
    return replace(old, source=f"{old.source}; fine-tuned on the project's photos")
