"""``finicky init`` and ``finicky tiles``: projects and what is cut from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress, say


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(init)
    app.command()(tiles)


def init(
    project: Annotated[Path, typer.Argument(help="Folder to make the project in.")],
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder of photos elsewhere; they stay where they are."),
    ] = None,
    force: options.Force = False,
) -> None:
    """Make a project: finicky.toml, and folders for photos and masks."""
    from finicky.project import create_project

    made = create_project(project, photos_source=photos, force=force)
    print(f"made {made.root / 'finicky.toml'}")
    print(f"photos: {made.photos}")
    print(f"masks go to: {made.masks}, each under its photo's name with .png added")
    marked = made.masks.is_dir() and any(made.masks.iterdir())
    root = f'"{made.root}"' if " " in str(made.root) else made.root  # to be pasted as it is
    print(f"then: finicky {'run' if marked else 'label'} {root}")


def tiles(
    project: Annotated[
        Path,
        typer.Argument(help="Folder with finicky.toml, or with photos/ (or images/) and masks/."),
    ],
    out: options.OutFolder,
    tile: Annotated[
        int | None, typer.Option(help="Side of a tile in px; default: the project's, or 96.")
    ] = None,
    min_coverage: options.Coverage = 0.01,
    tiles_per_photo: Annotated[
        int | None, typer.Option(help="At most so many tiles of each class from one photo.")
    ] = None,
    target: options.Target = None,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Cut labelled photos into class folders, split by photo into train, validation and test."""
    from finicky.project import Project
    from finicky.sweep import SweepSettings
    from finicky.sweep.inputs import cut, gather_evidence

    opened = Project.open(project)
    settings = SweepSettings(
        tile=tile if tile is not None else opened.tile,
        min_coverage=min_coverage,
        tiles_per_photo=tiles_per_photo,
        targets=tuple(target or ()),
        seed=seed,
    )
    with ConsoleProgress() as progress:
        evidence = gather_evidence(opened, settings, progress=progress)
        report = cut(opened, evidence, settings, out, force=force, progress=progress)
    for rejected in (*evidence.rejected, *report.rejected):
        say(f"left out {rejected.path}: {rejected.reason}")
    for split, label, count in report.counts:
        print(f"{split:<11}{label:<12}{count:>7} tiles")
    print(f"left out {report.left_out} tiles that are neither")
    print(f"wrote {out}")
