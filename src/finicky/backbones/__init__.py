"""Names and files to torch modules with their preprocessing and provenance."""

from finicky.backbones.backbone import (
    Backbone,
    Preprocessing,
    Provenance,
    convolutions,
    freeze,
)
from finicky.backbones.registry import ARCHITECTURES, build_module, load_backbone, save_backbone

__all__ = [
    "ARCHITECTURES",
    "Backbone",
    "Preprocessing",
    "Provenance",
    "build_module",
    "convolutions",
    "freeze",
    "load_backbone",
    "save_backbone",
]
