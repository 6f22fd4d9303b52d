"""Names that people type, and the backbones behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from finicky.backbones import weights as sources
from finicky.backbones.alexnet import alexnet, alexnet_bn
from finicky.backbones.backbone import (
    IMAGENET_RGB,
    Backbone,
    Preprocessing,
    Provenance,
    find_preprocessing,
    freeze,
)
from finicky.backbones.blueprint import Blueprint, Built, find_function
from finicky.backbones.efficientnet import efficientnet_lite0
from finicky.backbones.folder import CARD, load_folder
from finicky.backbones.vgg import vgg16
from finicky.errors import DataError, UsageError, nearest_names


@dataclass(frozen=True)
class Architecture:
    """One built-in network: how to build it, and where its weights usually come from.

    ``url`` and ``url_sha256`` (the first 8 hex digits, as torchvision publishes them) are used
    only when a download is asked for.
    """

    build: Callable[[], nn.Module]
    min_size: int
    shipped: Callable[[nn.Module], sources.Loaded] | None = None
    url: str | None = None
    url_sha256: str | None = None


ARCHITECTURES: dict[str, Architecture] = {
    "vgg16": Architecture(
        vgg16,
        32,
        sources.load_hed,
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af",
    ),
    "alexnet": Architecture(
        alexnet,
        63,
        None,
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be79",
    ),
    "alexnet-bn": Architecture(alexnet_bn, 41),
    "efficientnet-lite0": Architecture(efficientnet_lite0, 32, sources.load_lite0),
}


# Files by the end of their name, longest first: the reader, and what to call it.
READERS: dict[str, tuple[str, str]] = {
    ".weights.h5": ("finicky.backbones.keras:load", "Keras files"),
    ".h5": ("finicky.backbones.keras:load", "Keras files"),
    ".hdf5": ("finicky.backbones.keras:load", "Keras files"),
    ".keras": ("finicky.backbones.keras:load", "Keras files"),
    ".onnx": ("finicky.backbones.onnx_graph:load", "ONNX files"),
    ".pt2": ("finicky.backbones.program:load", "exported PyTorch programs"),
}
STATE_DICTS = (".pt", ".pth", ".safetensors", ".ckpt", ".bin", ".pt.tar", ".pth.tar")
_HDF5 = (".h5", ".hdf5")
_PREFIXES = ("torchvision:", "timm:")


def build_module(name: str) -> nn.Module:
    """A built-in architecture with fresh weights, in eval mode and frozen."""
    return freeze(_architecture(name).build())


def build_builtin(blueprint: Blueprint) -> Built:
    """A built-in architecture by its blueprint."""
    name = blueprint.spec.get("name")
    if name not in ARCHITECTURES:
        raise DataError(f"the network is of architecture {name}, which is not built in")
    return build_module(name), None


def builtin_blueprint(name: str) -> Blueprint:
    """The blueprint of a built-in architecture."""
    return Blueprint("builtin", {"name": name})


def load_backbone(
    name: str | Path,
    *,
    weights: str | Path | None = None,
    arch: str | None = None,
    preprocessing: str | Preprocessing | None = None,
) -> Backbone:
    """The backbone that a person named, ready to run.

    Args:
        name: A built-in name, ``torchvision:NAME``, ``timm:NAME``, a folder that `save_backbone`
            or ``finicky prune`` wrote, or a file: ``.onnx``, Keras' ``.h5``, ``.keras`` and
            ``.weights.h5``, ``.pt2``, or a state dict (``.pt``, ``.pth``, ``.safetensors``) with
            ``arch``.
        weights: For names. ``None`` for the weights that a pip package ships; a file (checkpoint
            of the same architecture); ``"download"`` for the published ones, fetched and checked;
            or ``"random"`` for fresh ones (seed 0), which see nothing and serve for tests.
        arch: For state dicts: the name of their architecture.
        preprocessing: What the network expects of photos, one of `PREPROCESSINGS`, where the name
            or file does not say, or says it wrongly.

    Raises:
        UsageError: Unknown name, or no weights are shipped for it and none were given.
        MissingDependencyError: A pip package, with the weights or the reader, is not installed.
        UnsupportedModelError: The network cannot be used, and why.
    """
    if isinstance(preprocessing, str):
        preprocessing = find_preprocessing(preprocessing)
    text = str(name)
    if not text.startswith(_PREFIXES) and _is_file(text):
        return _load_file(Path(name), weights, arch, preprocessing)
    if arch is not None:
        raise UsageError(
            f"--arch says what a file of weights belongs to; {text} is no such file. For an "
            "architecture by name, pass its weights with --weights"
        )
    if text.startswith(_PREFIXES):
        load = find_function("finicky.backbones.zoo:load", "torchvision and timm names")
        found: Backbone = load(text, weights=weights)
    elif Path(name, "plan.json").is_file():
        found = find_function("finicky.pruning.store:load_pruned", "pruned networks")(Path(name))
    elif Path(name, CARD).is_file():
        found = load_folder(Path(name))
    else:
        found = _load_builtin(text, weights)
    return found if preprocessing is None else replace(found, preprocessing=preprocessing)


def _is_file(name: str) -> bool:
    return name.lower().endswith((*READERS, *STATE_DICTS))


def _load_file(
    path: Path, weights: str | Path | None, arch: str | None, preprocessing: Preprocessing | None
) -> Backbone:
    if not path.is_file():
        raise UsageError(f"no file {path}")
    if weights is not None:
        raise UsageError(f"{path.name} brings its own weights: leave --weights out")
    lower = path.name.lower()
    if lower.endswith(_HDF5) and arch is not None:
        load = find_function("finicky.backbones.keras:load_weights", "Keras weights")
        return load(path, arch=arch, preprocessing=preprocessing)
    if lower.endswith(STATE_DICTS):
        if arch is None:
            raise UsageError(
                f"{path.name} holds weights and no architecture: say which with --arch, such as "
                "--arch torchvision:resnet18"
            )
        load = find_function("finicky.backbones.checkpoint:load", "state dicts")
        return load(path, arch=arch, preprocessing=preprocessing)
    if arch is not None:
        raise UsageError(f"{path.name} brings its own architecture: leave --arch out")
    place, what = next(reader for end, reader in READERS.items() if lower.endswith(end))
    return find_function(place, what)(path, preprocessing=preprocessing)


def _load_builtin(name: str, weights: str | Path | None) -> Backbone:
    architecture = _architecture(name)
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = architecture.build()
        random = replace(IMAGENET_RGB, origin="random weights expect nothing; ImageNet's")
        loaded = random, Provenance("random weights, seed 0", "none")
    else:
        module = architecture.build()
        expected, provenance = _fill(module, name, architecture, weights)
        loaded = replace(expected, origin=f"what the weights of {name} expect"), provenance
    blueprint = builtin_blueprint(name)
    return Backbone(name, freeze(module), *loaded, architecture.min_size, blueprint)


def _architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise UsageError(
            f"no backbone named {name!r}. {nearest_names(name, ARCHITECTURES)} torchvision:NAME, "
            "timm:NAME, a model file and a folder written by finicky train-backbone work too."
        )
    return ARCHITECTURES[name]


def _fill(
    module: nn.Module, name: str, architecture: Architecture, weights: str | Path | None
) -> sources.Loaded:
    if weights is None:
        if architecture.shipped is None:
            raise UsageError(
                f"{name} ships without weights: train it with finicky train-backbone, or pass "
                "--weights FILE (a checkpoint) or --weights download"
            )
        return architecture.shipped(module)
    if weights == "download":
        if architecture.url is None or architecture.url_sha256 is None:
            raise UsageError(f"there is nothing to download for {name}: pass --weights FILE")
        path = sources.download(architecture.url, architecture.url_sha256)
        return sources.load_checkpoint(module, path)
    return sources.load_checkpoint(module, Path(weights))
