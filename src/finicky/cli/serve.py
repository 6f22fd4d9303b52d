"""``finicky serve``: a bundle behind a local page, for an office."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from finicky.cli.console import say


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(serve)


def serve(
    bundle: Annotated[
        str,
        typer.Argument(help="Bundle or run folder, .onnx file, or name of a ready-made model."),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.")] = 0,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a --host that other machines reach.")
    ] = False,
    links: Annotated[
        int, typer.Option(help="Links to print, 1 to 100; each works once, in one browser.")
    ] = 2,
    scale: Annotated[
        float | None, typer.Option(help="Millimetres per px of all photos, for lengths in mm.")
    ] = None,
    max_pixels: Annotated[
        float, typer.Option(help="Largest photo that is read, in megapixels.")
    ] = 120,
    max_mb: Annotated[float, typer.Option(help="Largest file that is taken, in MB.")] = 250,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page at once.")
    ] = True,
) -> None:
    """Inspect photos in the browser: drop one, see what is on it. Also answers programs.

    Nothing leaves this machine and no photo is kept: results stay until 50 newer ones have come
    or the server stops (Ctrl+C).
    """
    from finicky.edge import open_bundle
    from finicky.errors import MissingDependencyError

    try:
        from finicky.service import Inspector, Limits, ServiceOptions, serve
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"finicky serve needs {error.name}: pip install 'finicky-transfer-learning[serve]'"
        ) from error
    address = ServiceOptions(host=host, port=port, allow_remote=allow_remote, links=links)
    address.check()
    limits = Limits(max_pixels=round(max_pixels * 1e6), max_bytes=round(max_mb * 1e6))
    inspector = Inspector(open_bundle(bundle), limits=limits, mm_per_px=scale)
    if allow_remote:
        say("warning: other machines can reach this page; whoever has a link can use it")
    say("Each link opens the page once, in one browser or program. Ctrl+C stops the server.")
    with contextlib.suppress(KeyboardInterrupt):
        serve(
            inspector,
            address,
            open_browser=browser,
            announce=lambda link: print(link, flush=True),
        )
    say("stopped; no photos and no results were kept")
