"""``finicky bench``: how fast a bundle is where it is to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress

if TYPE_CHECKING:
    from finicky.edge.bench import Bench


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(bench)


def bench(
    bundle: Annotated[
        str,
        typer.Argument(help="Bundle or run folder, .onnx file, or name of a ready-made model."),
    ],
    against: Annotated[
        Path | None, typer.Option(help="ONNX file of the unpruned network to compare with.")
    ] = None,
    photos: Annotated[
        str | None,
        typer.Option(help="Folder of photos: up to 20 are inspected, decoding included."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Tiles in one call besides 1, at least 2.")] = 16,
    seconds: Annotated[float, typer.Option(help="For each comparison.")] = 2.0,
    as_json: options.AsJson = False,
) -> None:
    """Time a bundle's models here, in turn, and say which one to use."""
    from finicky.edge.bench import bench as measure
    from finicky.edge.sources import find_photos
    from finicky.errors import UsageError

    if not 0 < seconds <= 600:
        raise UsageError(f"seconds must be above 0 and at most 600, got {seconds:g}")
    found = [s.path for s in find_photos([photos]) if not s.skipped] if photos else []
    with ConsoleProgress() as progress:
        result = measure(
            bundle, against=against, photos=found, batch=batch, seconds=seconds, progress=progress
        )
    if as_json:
        print(json.dumps(result.to_json(), ensure_ascii=False))
    else:
        _show(result)


def _show(result: Bench) -> None:
    print(f"{result.bundle}, times of one call in ms, compared with {result.reference}:")
    print(f"{'model':<18}{'batch':>6}{'threads':>8}{'p50':>9}{'p95':>9}{'p99':>9}  times faster")
    for row in result.rows:
        s, ratio = row.stats, row.times_faster
        faster = "" if ratio is None else f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"
        print(
            f"{row.model:<18}{s.batch:>6}{s.threads:>8}{s.p50_ms:>9.2f}{s.p95_ms:>9.2f}"
            f"{s.p99_ms:>9.2f}  {faster}"
        )
    if result.photos_per_second is not None:
        print(
            f"photos: {result.photos_per_second:.2f} a second, decoding and merging included "
            f"({result.photos} photos, all cores)"
        )
    if result.peak_memory_mb is not None:
        print(f"peak memory: {result.peak_memory_mb:.0f} MB")
    print(f"use {result.use}: {result.why}")
