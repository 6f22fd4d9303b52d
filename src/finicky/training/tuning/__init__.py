"""Training after the cut: fine-tuned or from scratch, with the masks as a second teacher."""

from finicky.training.tuning.augment import SurfaceAugmentation
from finicky.training.tuning.batches import MarkedTiles, Soft
from finicky.training.tuning.fresh import fresh_weights
from finicky.training.tuning.loop import Trained, finetune
from finicky.training.tuning.settings import FinetuneSettings

__all__ = [
    "FinetuneSettings",
    "MarkedTiles",
    "Soft",
    "SurfaceAugmentation",
    "Trained",
    "finetune",
    "fresh_weights",
]
