"""Names and files to torch modules with their preprocessing and provenance."""

from finicky.backbones.backbone import (
    PREPROCESSINGS,
    Backbone,
    Preprocessing,
    Provenance,
    Whole,
    convolutions,
    find_preprocessing,
    freeze,
)
from finicky.backbones.blueprint import Blueprint, build
from finicky.backbones.folder import save_backbone
from finicky.backbones.registry import (
    ARCHITECTURES,
    build_module,
    builtin_blueprint,
    load_backbone,
)
from finicky.backbones.split import split_network

__all__ = [
    "ARCHITECTURES",
    "PREPROCESSINGS",
    "Backbone",
    "Blueprint",
    "Preprocessing",
    "Provenance",
    "Whole",
    "build",
    "build_module",
    "builtin_blueprint",
    "convolutions",
    "find_preprocessing",
    "freeze",
    "load_backbone",
    "save_backbone",
    "split_network",
]
