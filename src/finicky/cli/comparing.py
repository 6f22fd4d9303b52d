"""``finicky compare``: criteria against each other on a person's own photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress

USUAL = "coverage,quantile-iou,mask-correlation,class-evidence,random,l1,taylor,unpruned,texture"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(compare)


def compare(
    project: Annotated[
        Path,
        typer.Argument(help="Folder with finicky.toml, or with photos/ (or images/) and masks/."),
    ],
    out: options.OutFolder,
    criteria: Annotated[
        str,
        typer.Option(
            help="Names as for --criterion of prune, with commas; and unpruned, original (the 2021 "
            "method), texture (intensity and texture statistics, no network)."
        ),
    ] = USUAL,
    keep: Annotated[str, typer.Option(help="Keep ratios, as for run.")] = "0.05,0.1,0.2",
    seeds: Annotated[int, typer.Option(help="Divisions into training and validation.")] = 3,
    backbone: options.ProjectBackbone = None,
    weights: options.WeightsSource = None,
    repair: Annotated[
        str, typer.Option(help="none, reconstruct, rescale, or auto: as for run.")
    ] = "auto",
    tile: Annotated[
        int | None, typer.Option(help="Side of a tile in px; default: the project's, or 96.")
    ] = None,
    tiles_per_photo: Annotated[
        int, typer.Option(help="At most so many tiles of each class from one photo.")
    ] = 4,
    validation_only: Annotated[
        bool, typer.Option("--validation-only", help="Leave the test photos alone.")
    ] = False,
) -> None:
    """Compare criteria on your photos: compare.csv, compare.md and curves. Resumable."""
    from finicky.importance import DEFAULT_CRITERION
    from finicky.project import Project
    from finicky.report.criteria import write_comparison
    from finicky.sweep import SweepSettings, parse_ratios
    from finicky.sweep.compare import CompareSettings
    from finicky.sweep.compare import compare as measure

    opened = Project.open(project)
    names = tuple(name.strip() for name in criteria.split(",") if name.strip())
    sweep = SweepSettings(
        backbone=backbone or opened.backbone,
        weights=weights,
        repair=repair,
        round_to=1,
        tile=tile if tile is not None else opened.tile,
        tiles_per_photo=tiles_per_photo,
        head_seeds=1,
    )
    # The default where it takes part, else the first that is named.
    first = next((n for n in names if n not in ("unpruned", "texture")), "")
    reference = DEFAULT_CRITERION if DEFAULT_CRITERION in names else first
    settings = CompareSettings(
        sweep, names, parse_ratios(keep), tuple(range(seeds)), validation_only, reference
    )
    with ConsoleProgress() as progress:
        rows = measure(opened, out, settings, progress=progress)
        page = write_comparison(out, settings, rows)
    print(f"{len(rows)} cells; table: {out / 'compare.csv'}; page: {page}")
