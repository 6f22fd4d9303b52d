"""Features, the logistic head, the pixel head, and backbones trained from scratch."""

from finicky.training.features import FEATURE_KINDS, FeatureKind, Features, extract, read_tiles
from finicky.training.head import C_GRID, LogisticHead, refit_head, train_head
from finicky.training.pixel_fit import PixelSettings, fit_pixel_head, sample_cells
from finicky.training.pixel_head import PixelHead, PixelMap, stage_taps
from finicky.training.reconstruct import ReconstructionSettings, Reconstructor

__all__ = [
    "C_GRID",
    "FEATURE_KINDS",
    "FeatureKind",
    "Features",
    "LogisticHead",
    "PixelHead",
    "PixelMap",
    "PixelSettings",
    "ReconstructionSettings",
    "Reconstructor",
    "extract",
    "fit_pixel_head",
    "read_tiles",
    "refit_head",
    "sample_cells",
    "stage_taps",
    "train_head",
]
