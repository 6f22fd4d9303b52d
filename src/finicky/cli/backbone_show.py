"""``finicky backbone``: what a network is made of and could be cut to; one file of several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finicky.cli import options

if TYPE_CHECKING:
    from finicky.pruning import BackboneDescription

_SHOWN = 6  # convolutions of a group that are named


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = typer.Typer(no_args_is_help=True, help="Look at networks.")
    group.command()(show)
    group.command()(inline)
    app.add_typer(group, name="backbone")


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="What --backbone takes: a name, a file or a folder; or a folder that finicky "
            "prune wrote."
        ),
    ],
    weights: options.WeightsSource = None,
    arch: options.Arch = None,
    preprocessing: options.PreprocessingName = None,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            help="Side in px that shapes and MACs are given for; default: what its classifier "
            "takes, or 224.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Print a network's layers, shapes, parameters, MACs and preprocessing, and what can be cut."""
    from finicky.pruning import describe_backbone

    found = describe_backbone(
        name, tile=tile, weights=weights, arch=arch, preprocessing=preprocessing
    )
    if as_json:
        print(json.dumps(found.to_json() | {"never_cut": found.never_cut}))
        return
    for line in [*_facts(found), "", *_layer_table(found), "", *_cuts(found)]:
        print(line)


def inline(
    model: Annotated[Path, typer.Argument(help="ONNX file whose weights lie in files beside it.")],
    out: Annotated[Path, typer.Option(help="ONNX file to write.")],
    force: options.Force = False,
) -> None:
    """Put an ONNX model's weights from files beside it into one file, which has one hash."""
    from finicky.backbones.onnx_file import inline_onnx

    count = inline_onnx(model, out, force=force)
    print(f"wrote {out}: {count} tensors of {model.name} lay in files beside it")


def _facts(found: BackboneDescription) -> list[str]:
    numbers = found.preprocessing
    order = numbers.channel_order.upper()
    facts = [
        ("network", found.name),
        ("weights", f"{found.source} (licence: {found.license})"),
        ("sha256", found.sha256 or "none: no file"),
        (
            "preprocessing",
            f"{order}, minus {_numbers(numbers.mean)}, divided by {_numbers(numbers.std)}, of 0 "
            f"to 255; from: {numbers.origin or 'not said'}",
        ),
        ("photos", f"from {found.min_size} px up; figures below are for {found.tile} px"),
        ("features", _counts(found.features.params, found.features.macs, found.features.channels)),
    ]
    if found.classes is None:
        facts.append(("classifier", "brings none"))
    else:
        size = f", for photos of {found.head_size} px only" if found.head_size else ""
        facts.append(("classifier", f"{found.classes:,} outputs{size}"))
    if found.whole is not None:
        facts.append(
            ("together", _counts(found.whole.params, found.whole.macs, found.whole.channels))
        )
    return [f"{what:<14} {text}" for what, text in facts]


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _counts(params: int, macs: int, channels: int) -> str:
    return f"{params:,} parameters, {macs:,} MACs, {channels:,} channels of convolutions"


def _layer_table(found: BackboneDescription) -> list[str]:
    rows = [("layer", "kind", "output", "parameters", "MACs", "group")]
    for layer in found.layers:
        shape = "x".join(str(n) for n in layer.shape)
        group = "" if layer.group is None else str(layer.group)
        rows.append((layer.name, layer.kind, shape, f"{layer.params:,}", f"{layer.macs:,}", group))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = []
    for row in rows:
        left = [text.ljust(width) for text, width in zip(row[:3], widths[:3], strict=True)]
        right = [text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(left + right).rstrip())
    return lines


def _cuts(found: BackboneDescription) -> list[str]:
    if found.refusal:
        return [f"nothing can be cut: {found.refusal}"]
    free = [group for group in found.groups if not group.whole]
    lines = [f"can be cut: {len(free)} groups, {sum(g.channels for g in free):,} channels"]
    for group in free:
        names = ", ".join(group.convolutions[:_SHOWN])
        more = len(group.convolutions) - _SHOWN
        tied = "" if group.decisions == group.channels else f" in {group.decisions} decisions"
        lines.append(
            f"  {group.number:>3}  {group.channels:>5} channels{tied}: {names}"
            + (f" and {more} more" if more > 0 else "")
        )
    never = found.never_cut
    for reason in dict.fromkeys(never.values()):
        names = ", ".join(name for name, why in never.items() if why == reason)
        lines.append(f"never cut, because {reason}: {names}")
    return lines
