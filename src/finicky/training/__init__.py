"""Features, the logistic head, and backbones trained from scratch."""

from finicky.training.features import FEATURE_KINDS, FeatureKind, Features, extract, read_tiles
from finicky.training.head import C_GRID, LogisticHead, refit_head, train_head
from finicky.training.reconstruct import ReconstructionSettings, Reconstructor

__all__ = [
    "C_GRID",
    "FEATURE_KINDS",
    "FeatureKind",
    "Features",
    "LogisticHead",
    "ReconstructionSettings",
    "Reconstructor",
    "extract",
    "read_tiles",
    "refit_head",
    "train_head",
]
