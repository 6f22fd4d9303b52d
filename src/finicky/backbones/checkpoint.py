"""A file of weights alone, with the name of the network that they belong to."""

from __future__ import annotations

from pathlib import Path

from finicky.backbones.backbone import Backbone, Preprocessing


def load(path: Path, *, arch: str, preprocessing: Preprocessing | None = None) -> Backbone:
    """The network of a name, filled from a state dict; the file's number of classes is taken.

    Raises:
        DataError: The file is damaged, or holds anything but tensors.
        UnsupportedModelError: It belongs to another network; the message names a tensor.
    """
    from finicky.backbones.registry import load_backbone

    return load_backbone(arch, weights=path, preprocessing=preprocessing)
