"""``finicky prune``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress, say

if TYPE_CHECKING:
    from finicky.classes import MaskClass
    from finicky.data.pairs import UsablePairs
    from finicky.pruned import PrunedModel

# With several keep ratios, the table of all networks; it is written last.
NETWORKS = "networks.csv"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(prune)


def prune(
    photos: options.Photos,
    masks: options.Masks,
    out: options.OutFolder,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Keep ratio: share of channels, in (0, 1]. Several, as 0.05,0.1 or 0.01:1:0.01 "
            "(from, to, step), are cut from one look at the photos, each to its own folder."
        ),
    ] = None,
    budget: options.BudgetLimits = None,
    backbone: options.BackboneName = "vgg16",
    method: options.Method = "finicky",
    criterion: options.Criterion = "coverage",
    round_to: Annotated[
        int, typer.Option(help="Channel counts from this up become multiples of it, as 16.")
    ] = 1,
    allocation: options.AllocationRule = "uniform",
    min_channels: options.MinChannels = 1,
    depth: Annotated[
        str,
        typer.Option(
            help="The last convolution that stays; default: all do. Shares of --budget "
            "are of what stays."
        ),
    ] = "",
    target: options.Target = None,
    weights: options.WeightsSource = None,
    arch: options.Arch = None,
    preprocessing: options.PreprocessingName = None,
    size: Annotated[int, typer.Option(help="Side in px that MACs are counted for.")] = 224,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Cut a network to the filters that overlap the masks: plan.json and model.safetensors."""
    from finicky.errors import UsageError
    from finicky.pruned import prune_many, write_networks
    from finicky.pruning import candidate_name, parse_ratios

    if (keep is None) == (not budget):
        raise UsageError("give either --keep, a keep ratio, or --budget, such as params=7%")
    ratios = tuple(dict.fromkeys(parse_ratios(keep or "1")))
    _check_out(out, force)
    written = []
    with ConsoleProgress() as progress:
        for model in prune_many(
            backbone,
            photos,
            masks,
            keep_ratios=ratios,
            budget=budget or (),
            method=method,
            criterion=criterion,
            round_to=round_to,
            allocation=allocation,
            min_channels=min_channels,
            depth=depth,
            target=target,
            weights=weights,
            arch=arch,
            preprocessing=preprocessing,
            input_size=size,
            progress=progress,
        ):
            here = out if len(ratios) == 1 else out / candidate_name(model.plan.keep_ratio)
            model.save(here)
            written.append({"out": str(here), **model.facts()})
    if len(ratios) > 1:
        write_networks(out / NETWORKS, written)
    _tell_evidence(model, target)
    if as_json:
        print(
            json.dumps(written[0] if len(ratios) == 1 else {"out": str(out), "networks": written})
        )
    elif len(ratios) == 1:
        if budget:
            print(f"keep ratio {model.plan.keep_ratio:g} keeps the budget {', '.join(budget)}")
        _tell_one(model, out)
    else:
        _tell_many(model, written, out)


def _tell_evidence(model: PrunedModel, target: list[str] | None) -> None:
    from finicky.classes import DEFAULT_CLASSES

    for rejected in model.evidence.rejected:
        say(f"left out {rejected.path}: {rejected.reason}")
    say(evidence_line(model.evidence, DEFAULT_CLASSES.targets(target)))
    numbers = model.backbone.preprocessing
    say(
        f"photos are fed as {numbers.channel_order.upper()}, minus {_numbers(numbers.mean)}, "
        f"divided by {_numbers(numbers.std)}, of 0 to 255 "
        f"({numbers.origin or 'what its weights expect'}); --preprocessing says otherwise"
    )


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _tell_one(model: PrunedModel, out: Path) -> None:
    whole = [
        n for n, kept in model.plan.kept.items() if len(kept) == len(model.importance.get(n, ()))
    ]
    if whole and model.plan.keep_ratio < 1:
        say(
            f"{len(whole)} of {len(model.plan.kept)} convolutions stay whole, {whole[0]} first: "
            "a layer mixes their channels, or they have too few"
        )
    print(
        f"{model.plan.backbone}: {model.before.channels:,} channels cut to "
        f"{model.after.channels:,}, {model.before.params:,} parameters to "
        f"{model.after.params:,} ({model.after.params / model.before.params:.1%}), "
        f"MACs to {model.after.macs / model.before.macs:.1%}"
    )
    print(f"wrote {out / 'plan.json'} and {out / 'model.safetensors'}")
    if model.backbone.head is not None:
        print("its own classifier, cut to match, lies beside them")


def _tell_many(model: PrunedModel, written: list[dict[str, Any]], out: Path) -> None:
    params = [facts["params"][1] for facts in written]
    print(
        f"{model.plan.backbone}: {len(written)} networks of {min(params):,} to {max(params):,} "
        f"parameters (unpruned {model.before.params:,})"
    )
    print(f"wrote {written[0]['out']} and {len(written) - 1} more; table: {out / NETWORKS}")


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
    if (out / "plan.json").exists() or (out / NETWORKS).exists():
        if not force:
            raise UsageError(
                f"{out} already holds pruned networks: choose another --out, or --force"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} holds other files: choose a new or empty --out folder")
