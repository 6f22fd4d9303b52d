"""Features, heads, training after the cut, and backbones trained from scratch."""

from finicky.training.features import FEATURE_KINDS, FeatureKind, Features, extract, read_tiles
from finicky.training.head import C_GRID, LogisticHead, refit_head, train_head
from finicky.training.pixel_fit import PixelSettings, fit_pixel_head, sample_cells
from finicky.training.pixel_head import PixelHead, PixelMap, stage_taps
from finicky.training.reconstruct import ReconstructionSettings, Reconstructor, repair_by
from finicky.training.tuning import (
    FinetuneSettings,
    MarkedTiles,
    Soft,
    SurfaceAugmentation,
    Trained,
    finetune,
)

__all__ = [
    "C_GRID",
    "FEATURE_KINDS",
    "FeatureKind",
    "Features",
    "FinetuneSettings",
    "LogisticHead",
    "MarkedTiles",
    "PixelHead",
    "PixelMap",
    "PixelSettings",
    "ReconstructionSettings",
    "Reconstructor",
    "Soft",
    "SurfaceAugmentation",
    "Trained",
    "extract",
    "finetune",
    "fit_pixel_head",
    "read_tiles",
    "refit_head",
    "repair_by",
    "sample_cells",
    "stage_taps",
    "train_head",
]
