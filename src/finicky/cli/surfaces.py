"""``finicky surfaces``: labelled photographs of concrete, generated."""

from __future__ import annotations

from typing import Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(surfaces)


def surfaces(
    out: options.OutFolder,
    count: Annotated[int, typer.Option(help="How many photos.")] = 40,
    width: Annotated[int, typer.Option(help="In px.")] = 480,
    height: Annotated[int, typer.Option(help="In px.")] = 320,
    seed: Annotated[int, typer.Option(help="The same seed gives the same photos.")] = 0,
) -> None:
    """Generate photos of concrete with exact masks of cracks, pores and dirt."""
    from finicky.data.surfaces import write_surfaces

    with ConsoleProgress() as progress:
        write_surfaces(out, count, seed=seed, width=width, height=height, progress=progress)
    print(f"wrote {count} photos and masks to {out}")
    print(f"then: finicky run {out}")
