"""Names that people type, and the backbones behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from finicky.backbones import weights as sources
from finicky.backbones.alexnet import alexnet, alexnet_bn
from finicky.backbones.backbone import IMAGENET_RGB, Backbone, Preprocessing, Provenance, freeze
from finicky.backbones.efficientnet import efficientnet_lite0
from finicky.backbones.vgg import vgg16
from finicky.errors import DataError, UsageError, nearest_names
from finicky.files import read_json, sha256_file, write_json


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


def build_module(name: str) -> nn.Module:
    """A built-in architecture with fresh weights, in eval mode and frozen."""
    return freeze(_architecture(name).build())


def load_backbone(name: str | Path, *, weights: str | Path | None = None) -> Backbone:
    """The backbone that a person named, ready to run.

    Args:
        name: A built-in name, or a folder that `save_backbone` wrote.
        weights: ``None`` for the weights that a pip package ships; a file (torchvision checkpoint
            of the same architecture); ``"download"`` for torchvision's, fetched and checked; or
            ``"random"`` for fresh ones (seed 0), which see nothing and serve for tests.

    Raises:
        UsageError: Unknown name, or no weights are shipped for it and none were given.
        MissingDependencyError: The pip package with the weights is not installed.
    """
    if Path(name, "backbone.json").is_file():
        return _load_folder(Path(name))
    architecture = _architecture(str(name))
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = architecture.build()
        loaded = IMAGENET_RGB, Provenance("random weights, seed 0", "none")
    else:
        module = architecture.build()
        loaded = _fill(module, str(name), architecture, weights)
    return Backbone(str(name), freeze(module), *loaded, architecture.min_size)


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Write ``model.safetensors`` and, last, ``backbone.json`` with the hash of the former."""
    from safetensors.torch import save_file

    from finicky.files import atomic_path

    tensors = {k: v.contiguous() for k, v in backbone.module.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    card = {
        "format": "finicky-backbone",
        "version": 1,
        "architecture": backbone.name,
        "preprocessing": backbone.preprocessing.to_json(),
        "provenance": backbone.provenance.to_json(),
        "sha256": sha256_file(folder / "model.safetensors"),
    }
    write_json(folder / "backbone.json", card)


def _load_folder(folder: Path) -> Backbone:
    card = read_json(folder / "backbone.json")
    path = folder / "model.safetensors"
    try:
        name, digest = card["architecture"], card["sha256"]
        preprocessing = Preprocessing.from_json(card["preprocessing"])
        provenance = Provenance.from_json(card["provenance"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / 'backbone.json'} lacks {error}: write it again") from error
    tensors = sources.read_tensors(path)
    if sha256_file(path) != digest:
        raise DataError(f"{path} is not the file that backbone.json describes: its hash differs")
    module = _architecture(name).build()
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"{path} does not fit {name}: {str(error).splitlines()[0]}") from error
    return Backbone(name, freeze(module), preprocessing, provenance, _architecture(name).min_size)


def _architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise UsageError(
            f"no backbone named {name!r}. {nearest_names(name, ARCHITECTURES)} "
            "A folder written by finicky train-backbone works too."
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
