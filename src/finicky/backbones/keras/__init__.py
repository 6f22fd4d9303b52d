"""Keras files without Keras or TensorFlow: our own layer list over h5py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the first look's child process lives here and must not wait for torch
    from finicky.backbones.backbone import Backbone, Preprocessing
    from finicky.backbones.blueprint import Blueprint, Built


def load(path: Path, *, preprocessing: Preprocessing | None = None) -> Backbone:
    """The backbone in a ``.h5``, ``.keras`` or ``.weights.h5`` file; see `reader.load`."""
    from finicky.backbones.keras import reader

    return reader.load(path, preprocessing=preprocessing)


def load_weights(path: Path, *, arch: str, preprocessing: Preprocessing | None = None) -> Backbone:
    """Keras weights alone, into an architecture known by name; see `alone.load_weights`."""
    from finicky.backbones.keras import alone

    return alone.load_weights(path, arch=arch, preprocessing=preprocessing)


def build(blueprint: Blueprint) -> Built:
    """Features and head of a blueprint of kind ``keras``, with fresh weights."""
    from finicky.backbones.keras import reader

    return reader.build(blueprint)
