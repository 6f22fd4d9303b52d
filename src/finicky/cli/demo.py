"""``finicky demo``: the main job on photographs that are there, or that are generated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress, say

GENERATED = 60


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(demo)


def demo(
    out: options.OutFolder,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with photos/ or images/ and masks/; default: generated concrete."
        ),
    ] = None,
    backbone: options.BackboneName = "vgg16",
    seed: options.Seed = 0,
    force: options.Force = False,
    as_json: options.Events = False,
) -> None:
    """Show all of it: score, cut, train, test and choose, down to an open report."""
    from finicky.cli.runs import carry_out
    from finicky.project import Project
    from finicky.sweep import DecisionSettings, SweepSettings

    if data is None:
        data = out / "project"
        _generate(data, seed, force)
        settings = SweepSettings(backbone=backbone, tile=64, tiles_per_photo=8, seed=seed)
    else:
        settings = SweepSettings(backbone=backbone, seed=seed)
    project = Project.open(data)
    carry_out(project, out, settings, DecisionSettings(), force=force, as_json=as_json)


def _generate(data: Path, seed: int, force: bool) -> None:
    """Make the photos, unless an earlier start of the same demo finished them."""
    import shutil

    from finicky.data.surfaces import write_surfaces
    from finicky.errors import UsageError
    from finicky.files import read_json, write_json

    made, wanted = data / "surfaces.json", {"count": GENERATED, "seed": seed}
    if made.is_file() and not force:
        if read_json(made) != wanted:
            raise UsageError(
                f"{data} holds photos of another demo: choose another --out, or --force"
            )
        return
    if made.is_file() or (data / ".unfinished").is_file():
        shutil.rmtree(data)
    say(f"generating {GENERATED} photos of concrete in {data}")
    data.mkdir(parents=True, exist_ok=True)
    (data / ".unfinished").touch()
    with ConsoleProgress() as progress:
        write_surfaces(data, GENERATED, seed=seed, progress=progress)
    write_json(made, wanted)
    (data / ".unfinished").unlink()
