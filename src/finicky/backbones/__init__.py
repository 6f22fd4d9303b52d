"""Names and files to torch modules with their preprocessing and provenance.

The names below are loaded when they are first used: the child process that takes the first look at
a stranger's file (`sandbox`) lives in this room and must not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "ARCHITECTURES": "registry",
    "PREPROCESSINGS": "backbone",
    "Backbone": "backbone",
    "Blueprint": "blueprint",
    "Preprocessing": "backbone",
    "Provenance": "backbone",
    "Whole": "backbone",
    "build": "blueprint",
    "build_module": "registry",
    "builtin_blueprint": "registry",
    "convolutions": "backbone",
    "find_preprocessing": "backbone",
    "freeze": "backbone",
    "load_backbone": "registry",
    "save_backbone": "folder",
    "split_network": "split",
}

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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"finicky.backbones.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'finicky.backbones' has no attribute {name!r}")
