"""An unpruned backbone on disk: ``backbone.json``, its weights, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from finicky.backbones.backbone import Backbone, Preprocessing, Provenance, freeze
from finicky.backbones.blueprint import Blueprint, build
from finicky.backbones.state_dict import read_tensors
from finicky.errors import DataError, UsageError
from finicky.files import read_json, sha256_file, write_json, write_tensors

CARD, MODEL, HEAD = "backbone.json", "model.safetensors", "classifier.safetensors"


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Write the weights and, last, ``backbone.json`` with their hashes."""
    if backbone.blueprint is None:
        raise UsageError(f"{backbone.name} has no blueprint to build it from: it cannot be saved")
    card = {
        "format": "finicky-backbone",
        "version": 1,
        "architecture": backbone.name,
        "min_size": backbone.min_size,
        "head_size": backbone.head_size,
        "preprocessing": backbone.preprocessing.to_json(),
        "provenance": backbone.provenance.to_json(),
        "blueprint": backbone.blueprint.save(folder),
        **save_weights(backbone, folder),
    }
    card["sha256"] = card.pop("weights_sha256")
    write_json(folder / CARD, card)


def load_folder(folder: Path) -> Backbone:
    """The inverse of `save_backbone`; anything amiss is a `DataError`."""
    origin = folder / CARD
    card = read_json(origin)
    try:
        name, digest = card["architecture"], card["sha256"]
        preprocessing = Preprocessing.from_json(card["preprocessing"], origin=CARD)
        provenance = Provenance.from_json(card["provenance"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{origin} lacks {error}: write it again") from error
    blueprint = read_blueprint(card, name, folder, origin)
    if blueprint is None:
        raise DataError(f"{origin} has no blueprint to build {name} from: write it again")
    module, head = build(blueprint)
    fill_saved(module, folder / MODEL, digest, origin)
    head_digest = card.get("classifier_sha256")
    if head is None or head_digest is None:
        head = None
    else:
        fill_saved(head, folder / HEAD, head_digest, origin)
    return Backbone(
        name,
        freeze(module),
        preprocessing,
        provenance,
        smallest_size(card, name),
        blueprint,
        None if head is None else freeze(head),
        card.get("head_size"),
    )


def save_weights(backbone: Backbone, folder: Path) -> dict[str, Any]:
    """Write the tensors of features and head; returns their hashes for JSON."""
    _save_tensors(backbone.module, folder / MODEL)
    hashes: dict[str, Any] = {"weights_sha256": sha256_file(folder / MODEL)}
    if backbone.head is not None:
        _save_tensors(backbone.head, folder / HEAD)
        hashes["classifier_sha256"] = sha256_file(folder / HEAD)
    return hashes


def fill_saved(module: nn.Module, path: Path, digest: object, origin: Path) -> None:
    """Load a file of tensors that ``origin`` describes; anything amiss is a `DataError`."""
    tensors = read_tensors(path)
    if sha256_file(path) != digest:
        raise DataError(f"{path} is not the file that {origin.name} describes: its hash differs")
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise DataError(f"{path} does not fit {origin.name}: {reason}") from error


def read_blueprint(card: dict[str, Any], name: str, folder: Path, origin: Path) -> Blueprint | None:
    """The blueprint in a JSON file; files from before there were any hold a built-in's name.

    ``None`` where the network was a module of somebody's own.
    """
    if "blueprint" not in card:
        return Blueprint("builtin", {"name": name})
    value = card["blueprint"]
    return None if value is None else Blueprint.load(value, folder, origin)


def smallest_size(card: dict[str, Any], name: str) -> int:
    """The ``min_size`` in a JSON file; older files leave it to the built-in architecture."""
    if "min_size" in card:
        return int(card["min_size"])
    from finicky.backbones.registry import ARCHITECTURES

    return ARCHITECTURES[name].min_size if name in ARCHITECTURES else 1


def _save_tensors(module: nn.Module, path: Path) -> None:
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    write_tensors(path, save(tensors))
