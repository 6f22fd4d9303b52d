"""``finicky prune``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress, say

if TYPE_CHECKING:
    from finicky.classes import MaskClass
    from finicky.data.pairs import UsablePairs


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(prune)


def prune(
    photos: options.Photos,
    masks: options.Masks,
    keep: Annotated[float, typer.Option(help="Keep ratio: share of channels, in (0, 1].")],
    out: options.OutFolder,
    backbone: options.BackboneName = "vgg16",
    method: options.Method = "finicky",
    criterion: options.Criterion = "quantile-iou",
    round_to: Annotated[
        int, typer.Option(help="Channel counts from this up become multiples of it, as 16.")
    ] = 1,
    target: options.Target = None,
    weights: options.WeightsSource = None,
    arch: options.Arch = None,
    preprocessing: options.PreprocessingName = None,
    size: Annotated[int, typer.Option(help="Side in px that MACs are counted for.")] = 224,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Cut a network to the filters that overlap the masks: plan.json and model.safetensors."""
    from finicky.classes import DEFAULT_CLASSES
    from finicky.pruned import prune as prune_network
    from finicky.pruning import check_keep_ratio

    check_keep_ratio(keep)
    _check_out(out, force)
    with ConsoleProgress() as progress:
        model = prune_network(
            backbone,
            photos,
            masks,
            keep_ratio=keep,
            method=method,
            criterion=criterion,
            round_to=round_to,
            target=target,
            weights=weights,
            arch=arch,
            preprocessing=preprocessing,
            input_size=size,
            progress=progress,
        )
        model.save(out)
    for rejected in model.evidence.rejected:
        say(f"left out {rejected.path}: {rejected.reason}")
    say(evidence_line(model.evidence, DEFAULT_CLASSES.targets(target)))
    whole = [
        n for n, kept in model.plan.kept.items() if len(kept) == len(model.importance.get(n, ()))
    ]
    if whole and keep < 1:
        say(
            f"{len(whole)} of {len(model.plan.kept)} convolutions stay whole, {whole[0]} first: "
            "their channels are shuffled, or too few"
        )
    result = {
        "out": str(out),
        "keep_ratio": keep,
        "method": method,
        "channels": [model.before.channels, model.after.channels],
        "params": [model.before.params, model.after.params],
        "macs": [model.before.macs, model.after.macs],
    }
    if as_json:
        print(json.dumps(result))
        return
    print(
        f"{model.plan.backbone}: {model.before.channels:,} channels cut to "
        f"{model.after.channels:,}, {model.before.params:,} parameters to "
        f"{model.after.params:,} ({model.after.params / model.before.params:.1%}), "
        f"MACs to {model.after.macs / model.before.macs:.1%}"
    )
    print(f"wrote {out / 'plan.json'} and {out / 'model.safetensors'}")
    if model.backbone.head is not None:
        print("its own classifier, cut to match, lies beside them")


def evidence_line(evidence: UsablePairs, targets: Sequence[MaskClass]) -> str:
    """Which pixels counted as evidence, so that nobody takes dirt for cracks unawares."""
    pixels = sum(evidence.pixels.of(c.name) for c in targets)
    names = ", ".join(f"{c.name} (id {c.id})" for c in targets)
    return (
        f"target: {names}, {pixels:,} px in {evidence.with_target} of {len(evidence.usable)} "
        "photos; other classes are not evidence"
    )


def _check_out(out: Path, force: bool) -> None:
    from finicky.errors import UsageError

    if out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder, {out} is a file")
    if (out / "plan.json").exists():
        if not force:
            raise UsageError(
                f"{out} already holds a pruned network: choose another --out, or --force"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} holds other files: choose a new or empty --out folder")
