"""A pruned network on disk: ``plan.json`` and ``model.safetensors``, and back, bit for bit."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from finicky.backbones import Backbone, Preprocessing, Provenance, build_module, freeze
from finicky.backbones.registry import ARCHITECTURES
from finicky.backbones.weights import read_tensors
from finicky.errors import DataError
from finicky.files import atomic_path, read_json, sha256_file, write_json
from finicky.pruning.plan import PruningPlan
from finicky.pruning.surgery import cut

PLAN, MODEL = "plan.json", "model.safetensors"


def save_pruned(backbone: Backbone, plan: PruningPlan, folder: Path, *, size: int) -> None:
    """Write a pruned backbone; ``plan.json`` comes last and holds the hash of the weights.

    Args:
        backbone: Around the pruned module.
        plan: What was kept.
        folder: Made if it is not there.
        size: Side in px of the tiles that the network is meant for.
    """
    from safetensors.torch import save_file

    tensors = {name: t.contiguous() for name, t in backbone.module.state_dict().items()}
    with atomic_path(folder / MODEL) as temporary:
        save_file(tensors, temporary)
    value = plan.to_json() | {
        "input_size": size,
        "preprocessing": backbone.preprocessing.to_json(),
        "provenance": backbone.provenance.to_json(),
        "weights_sha256": sha256_file(folder / MODEL),
    }
    write_json(folder / PLAN, value)


def restore(folder: Path, *, module: nn.Module | None = None) -> tuple[Backbone, PruningPlan]:
    """Make the pruned network of a folder again, with bit-equal outputs.

    Args:
        folder: As `save_pruned` wrote it.
        module: The unpruned network, with any weights, where the plan's backbone is not built in.

    Raises:
        DataError: A file is missing or damaged, or the two do not belong together.
    """
    folder = Path(folder)
    value = read_json(folder / PLAN)
    plan = PruningPlan.from_json(value, str(folder / PLAN))
    tensors = read_tensors(folder / MODEL)
    if sha256_file(folder / MODEL) != value.get("weights_sha256"):
        raise DataError(f"{folder / MODEL} is not the file that {PLAN} describes: its hash differs")
    if module is None:
        if plan.backbone not in ARCHITECTURES:
            raise DataError(
                f"{folder / PLAN} belongs to {plan.backbone}, which is not built in: "
                "pass the unpruned network as module="
            )
        module = build_module(plan.backbone)
    size = int(value["input_size"])
    smaller = cut(module, plan.decisions, size)
    try:
        smaller.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise DataError(f"{folder / MODEL} does not fit {PLAN}: {reason}") from error
    minimum = ARCHITECTURES[plan.backbone].min_size if plan.backbone in ARCHITECTURES else 1
    backbone = Backbone(
        plan.backbone,
        freeze(smaller),
        Preprocessing.from_json(value["preprocessing"]),
        Provenance.from_json(value["provenance"]),
        minimum,
    )
    return backbone, plan
