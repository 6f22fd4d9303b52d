"""``finicky export``: from a run to one verified folder for other computers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress, say

if TYPE_CHECKING:
    from finicky.export.bundle import BundleResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(export)


def export(
    run: Annotated[Path, typer.Argument(help="Run folder, as finicky run writes it.")],
    out: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    candidate: Annotated[
        str | None,
        typer.Option(help="Another candidate than the chosen one, such as keep-0.2."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name for people; default: the folder's.")] = "",
    int8: Annotated[
        bool, typer.Option("--int8/--no-int8", help="Make the 8-bit file as well.")
    ] = True,
    openvino: Annotated[
        bool, typer.Option("--openvino", help="Add an OpenVINO model (needs that package).")
    ] = False,
    allow_inexact: Annotated[
        bool,
        typer.Option(
            "--allow-inexact",
            help="Write it even where ONNX Runtime and PyTorch differ by more than 1e-5 of the "
            "largest logit; the card says so.",
        ),
    ] = False,
    latency_seconds: Annotated[
        float,
        typer.Option(help="Seconds that each comparison of times takes; 0: none are measured."),
    ] = 2.0,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a bundle: models for ONNX Runtime, checked against PyTorch, with card and hashes."""
    from finicky.errors import UsageError
    from finicky.export.bundle import BundleOptions, export_bundle

    if not 0 <= latency_seconds <= 3600:
        raise UsageError(f"latency seconds must be 0 to 3600, got {latency_seconds:g}")
    wanted = BundleOptions(
        name=name,
        int8=int8,
        allow_inexact=allow_inexact,
        openvino=openvino,
        seconds=latency_seconds,
    )
    with ConsoleProgress() as progress:
        result = export_bundle(
            run, out, candidate=candidate, options=wanted, force=force, progress=progress
        )
    if as_json:
        from finicky.export.bundle import evidence

        value = {"out": str(out), "files": result.files, **evidence(result.findings)}
        print(json.dumps(value, ensure_ascii=False))
    else:
        show(result)
    for note in result.notes:
        say(note)
    say("left for you to fill in, marked TODO in MODEL_CARD.md:")
    for line in result.todo:
        say(f"  - {line}")


def show(result: BundleResult) -> None:
    """What was checked, what is in the folder, and the next command."""
    found, parity = result.findings, result.findings.parity
    print(
        f"{result.source.candidate}: {parity.tiles} image files, largest difference to PyTorch "
        f"{parity.difference:.1e} ({parity.tolerance:.0e} allowed); {parity.controls_found} of "
        f"{len(parity.controls)} deliberate mistakes noticed"
    )
    for split, judged in found.judged.items():
        cells = "" if judged.cells is None else f", of map cells {judged.cells:.2%}"
        print(
            f"8-bit on {split}: same class on {judged.agreement:.2%} of tiles{cells}, "
            f"accuracy {judged.accuracy:.3f} ({100 * judged.drop:+.2f} points lost)"
        )
    if found.int8_problem:
        print(f"8-bit not used: {found.int8_problem}")
    for words, compared in (
        ("unpruned network", found.times.unpruned),
        ("float", found.times.int8),
    ):
        for way, one in compared.items():
            threads = "one thread" if way == "one" else "all cores"
            print(
                f"{one.path.name} against the {words}, {threads}: "
                f"{one.stats.p50_ms:.2f} ms against {one.reference.p50_ms:.2f} ms, "
                f"{one.ratio:.2f} times as fast"
            )
    for name, size in result.files.items():
        print(f"{name:<20}{size:>12,} bytes{'  preferred' if name == found.preferred else ''}")
    print(f"bundle: {result.path}")
    print(f"next: finicky predict {result.path} PHOTOS --out results")
