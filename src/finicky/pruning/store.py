"""A pruned network on disk: ``plan.json`` and its weights, and back, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from finicky.backbones import Backbone, Blueprint, Preprocessing, Provenance, build, freeze
from finicky.backbones.blueprint import Built
from finicky.backbones.folder import (
    HEAD,
    MODEL,
    fill_saved,
    read_blueprint,
    save_weights,
    smallest_size,
)
from finicky.errors import DataError
from finicky.files import read_json, write_json
from finicky.pruning.plan import PruningPlan
from finicky.pruning.surgery import cut, cut_both

PLAN = "plan.json"


def save_pruned(backbone: Backbone, plan: PruningPlan, folder: Path, *, size: int) -> None:
    """Write a pruned backbone; ``plan.json`` comes last and holds the hash of the weights.

    Args:
        backbone: Around the pruned module, with the blueprint of the unpruned one.
        plan: What was kept.
        folder: Made if it is not there.
        size: Side in px of the tiles that the network is meant for.
    """
    value = plan.to_json() | {
        "input_size": size,
        "min_size": backbone.min_size,
        "head_size": backbone.head_size,
        "preprocessing": backbone.preprocessing.to_json(),
        "provenance": backbone.provenance.to_json(),
        "blueprint": backbone.blueprint and backbone.blueprint.save(folder),
        **save_weights(backbone, folder),
    }
    write_json(folder / PLAN, value)


def load_pruned(folder: Path) -> Backbone:
    """The pruned network of a folder as one to be cut again: what is left of it is the whole."""
    backbone, plan = restore(folder)
    inner = backbone.blueprint
    if inner is None:
        raise DataError(f"{folder / PLAN} has no blueprint: it cannot be cut again")
    spec = {
        "inner": {"kind": inner.kind, "spec": inner.spec},
        "decisions": plan.decisions,
        "size": int(read_json(folder / PLAN)["input_size"]),
        "head_size": backbone.head_size,
        "head": backbone.head is not None,
    }
    return replace(backbone, name=folder.name, blueprint=Blueprint("pruned", spec, inner.blob))


def build_pruned(blueprint: Blueprint) -> Built:
    """Features and head of a network that was cut before, with fresh weights."""
    try:
        spec = blueprint.spec
        inner = Blueprint(str(spec["inner"]["kind"]), dict(spec["inner"]["spec"]), blueprint.blob)
        decisions = {str(n): [int(c) for c in kept] for n, kept in spec["decisions"].items()}
        size, head_size, has_head = int(spec["size"]), spec["head_size"], bool(spec["head"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the blueprint of the pruned network is damaged: {error!r}") from error
    module, head = build(inner)
    if head is None or not has_head:
        return freeze(cut(module, decisions, size, verify=False)), None
    both = cut_both(module, head, decisions, head_size or size, verify=False)
    return freeze(both[0]), freeze(both[1])


def restore(folder: Path, *, module: nn.Module | None = None) -> tuple[Backbone, PruningPlan]:
    """Make the pruned network of a folder again, with bit-equal outputs.

    Args:
        folder: As `save_pruned` wrote it.
        module: The unpruned features, with any weights, instead of those that the folder's
            blueprint builds.

    Raises:
        DataError: A file is missing or damaged, or the two do not belong together.
    """
    folder = Path(folder)
    origin = folder / PLAN
    value = read_json(origin)
    plan = PruningPlan.from_json(value, str(origin))
    blueprint = read_blueprint(value, plan.backbone, folder, origin)
    head: nn.Module | None = None
    if module is None:
        if blueprint is None:
            raise DataError(
                f"{origin} has no blueprint of {plan.backbone}: pass the unpruned "
                "network as module="
            )
        module, head = build(blueprint)
    if value.get("classifier_sha256") is None:
        head = None
    size, head_size = int(value["input_size"]), value.get("head_size")
    if head is None:
        module = cut(module, plan.decisions, size, verify=False)
    else:
        module, head = cut_both(module, head, plan.decisions, head_size or size, verify=False)
        fill_saved(head, folder / HEAD, value["classifier_sha256"], origin)
    fill_saved(module, folder / MODEL, value.get("weights_sha256"), origin)
    backbone = Backbone(
        plan.backbone,
        freeze(module),
        Preprocessing.from_json(value["preprocessing"], origin=PLAN),
        Provenance.from_json(value["provenance"]),
        smallest_size(value, plan.backbone),
        blueprint,
        None if head is None else freeze(head),
        head_size,
    )
    return backbone, plan
