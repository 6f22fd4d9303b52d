"""``finicky label``: mark photos in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finicky.cli.console import say


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(label)


def label(
    project: Annotated[
        Path,
        typer.Argument(help="Folder with finicky.toml, or with photos/ (or images/)."),
    ],
    port: Annotated[
        int | None, typer.Option(help="Port; default: the one this project had last time.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a --host that other machines reach.")
    ] = False,
    backbone: Annotated[
        str, typer.Option(help="Network whose filters help to propose masks; default: none.")
    ] = "",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page at once.")
    ] = True,
) -> None:
    """Mark cracks in the browser; every stroke is saved, and photos are never changed."""
    from finicky.labeler import Workplace, serve
    from finicky.labeler.server import ServerOptions
    from finicky.project import Project

    opened = Project.open(project)
    workplace = Workplace(opened.root, opened.photos, opened.masks, opened.classes)
    options = ServerOptions(host=host, port=port, allow_remote=allow_remote, backbone=backbone)
    if allow_remote:
        say("warning: other machines can reach this labeler; whoever has the link can draw")

    def announce(link: str) -> None:
        print(link, flush=True)
        say("The link works once. Ctrl+C stops the labeler; everything is saved as you draw.")

    serve(workplace, options, open_browser=browser, announce=announce)
