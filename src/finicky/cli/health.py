"""``finicky doctor``: is this computer ready, and this project?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress

_SIGNS = {"ok": "ok      ", "missing": "missing ", "failed": "FAILED  "}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(doctor)


def doctor(
    project: Annotated[
        Path | None, typer.Argument(help="A project whose photos and masks are looked at too.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Look whether this computer is ready, and a project: every fault with its remedy."""
    from finicky.doctor import examine

    with ConsoleProgress() as progress:
        diagnosis = examine(project, progress=progress)
    if as_json:
        print(json.dumps(diagnosis.to_json(), ensure_ascii=False))
    else:
        for check in diagnosis.checks:
            print(f"{_SIGNS[check.state]}{check.name}: {check.found}")
            if check.remedy:
                print(f"        -> {check.remedy}")
        print("ready" if diagnosis.ready else "not ready: see FAILED above")
    if not diagnosis.ready:
        raise typer.Exit(1)
