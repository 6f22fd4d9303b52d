"""Keras weights without an architecture, into a chain of convolutions that we know by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from finicky.backbones.backbone import PREPROCESSINGS, Backbone, Preprocessing, Provenance
from finicky.backbones.keras.document import Document, open_document, split_texts
from finicky.backbones.sandbox import first_look
from finicky.errors import DataError, UnsupportedModelError, UsageError
from finicky.files import sha256_file

# Networks whose padding and normalisation are the same in Keras and here: plain chains.
CHAINS = (
    *("vgg16", "alexnet", "alexnet-bn"),
    *(f"torchvision:{name}" for name in ("vgg11", "vgg13", "vgg16", "vgg19", "alexnet")),
)
_USUAL = "caffe"


@dataclass(frozen=True)
class _Layer:
    """One layer of the file: its name and its arrays in Keras' order."""

    name: str
    arrays: tuple[np.ndarray, ...]


def load_weights(path: Path, *, arch: str, preprocessing: Preprocessing | None = None) -> Backbone:
    """A backbone of a known architecture with the weights of a Keras file.

    Convolutions and normalisations are taken in the order in which the file lists them; names may
    differ, shapes not. Dense layers, the file's head, are left out.

    Args:
        path: ``.weights.h5`` of Keras 3, or weights that Keras 2 saved as ``.h5``.
        arch: One of `CHAINS`.
        preprocessing: What the weights expect; ``None``: BGR, ImageNet mean subtracted.

    Raises:
        UsageError: ``arch`` is no plain chain.
        UnsupportedModelError, DataError: The file is hostile or damaged, or does not fit.
    """
    from finicky.backbones.registry import load_backbone

    if arch not in CHAINS:
        raise UsageError(
            f"Keras weights alone fit a plain chain of convolutions only ({', '.join(CHAINS)}), "
            f"got --arch {arch}: Keras pads other networks in its own way. Save the whole model "
            "(model.save) and pass that file without --arch"
        )
    path = Path(path)
    first_look("keras", path)
    backbone = load_backbone(arch, weights="random")
    with open_document(path) as document:
        if document.model is not None:
            raise UsageError(f"{path.name} brings its own architecture: leave --arch out")
        layers = _layers(document)
        _fill(backbone.module, layers, document.name)
    source = f"local file {path.name} (Keras weights alone, of {arch})"
    if preprocessing is None:
        source += f"; preprocessing not stated in the file, assumed {_USUAL}"
    return replace(
        backbone,
        name=arch,
        preprocessing=preprocessing
        or replace(PREPROCESSINGS[_USUAL], origin="not stated in the file, the usual assumed"),
        provenance=Provenance(source, "as its owner states", sha256_file(path)),
        head=None,
    )


def _layers(document: Document) -> list[_Layer]:
    """All layers of the file that have weights, in order."""
    safe = document.weights
    if document.by_name:
        found = []
        for name in split_texts(safe, document.root, "layer_names"):
            group = f"{document.root}/{name}".strip("/")
            inside = split_texts(safe, group, "weight_names")
            found.append((name, [f"{group}/{weight}" for weight in inside]))
    else:
        groups = sorted((g for g in safe.groups if g.endswith("/vars")), key=_naturally)
        found = [(g.removesuffix("/vars"), _numbered(document, g)) for g in groups]
    layers = []
    for name, places in found:
        if missing := [p for p in places if p not in safe.datasets]:
            raise DataError(f"{document.name}: {missing[0]} of layer {name} is not in the file")
        if places and not name.startswith("optimizer"):
            layers.append(_Layer(name, tuple(safe.array(p).astype(np.float32) for p in places)))
    return layers


def _numbered(document: Document, group: str) -> list[str]:
    inside = [name for name in document.weights.datasets if name.startswith(f"{group}/")]
    return sorted(inside, key=_naturally)


def _naturally(name: str) -> list[tuple[str, int]]:
    """``conv2d_2`` before ``conv2d_10``, and ``conv2d`` before both."""
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(.*?)(?:_?(\d+)|/|$)", name)]


def _fill(module: nn.Module, layers: Sequence[_Layer], file: str) -> None:
    """Copy kernels, biases and statistics in order; a wrong count or shape names the layer."""
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    kernels = [x for x in layers if x.arrays[0].ndim == 4]
    statistics = [x for x in layers if x.arrays[0].ndim == 1]
    for what, own, theirs in (
        ("convolutions", len(convs), len(kernels)),
        ("normalisations", len(norms), len(statistics)),
    ):
        if own != theirs:
            raise UnsupportedModelError(
                f"{file} holds {theirs} {what} where this architecture has {own}: it is another"
            )
    with torch.no_grad():
        for conv, layer in zip(convs, kernels, strict=True):
            kernel = layer.arrays[0].transpose(3, 2, 0, 1)
            _copy(file, layer, (conv.weight, conv.bias), (kernel, *layer.arrays[1:]))
        for norm, layer in zip(norms, statistics, strict=True):
            targets = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            _copy(file, layer, targets, layer.arrays)


def _copy(
    file: str,
    layer: _Layer,
    targets: Sequence[torch.Tensor | None],
    arrays: Sequence[np.ndarray],
) -> None:
    wanted = [t for t in targets if t is not None]
    shapes = [tuple(t.shape) for t in wanted]
    if [a.shape for a in arrays] != shapes:
        raise UnsupportedModelError(
            f"{file}: layer {layer.name} has arrays of {[a.shape for a in arrays]} (channels "
            f"first), expected {shapes}: it is another architecture"
        )
    for target, array in zip(wanted, arrays, strict=True):
        if not np.isfinite(array).all():
            raise DataError(f"{file}: layer {layer.name} holds NaN or infinity")
        target.copy_(torch.from_numpy(np.ascontiguousarray(array)))
