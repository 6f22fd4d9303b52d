"""The ``finicky`` command: its verbs, and how it fails."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from finicky._version import __version__
from finicky.cli import (
    backbone_show,
    backbones,
    bench,
    comparing,
    demo,
    export,
    health,
    labeling,
    predict,
    projects,
    pruning,
    runs,
    serve,
    stages,
    surfaces,
)
from finicky.cli.extras import missing
from finicky.errors import FinickyError

app = typer.Typer(
    name="finicky",
    help="Make image-recognition CNNs small and fast: keep only the filters that look at what "
    "a person marked in a few photos.",
    epilog="Start with: finicky demo --out demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (
    demo,
    projects,
    labeling,
    pruning,
    runs,
    comparing,
    export,
    predict,
    bench,
    serve,
    stages,
    backbones,
    backbone_show,
    surfaces,
    health,
):
    group.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"finicky {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Only what holds for every verb."""


def main() -> None:
    """Run the command line; every error of ours becomes one line and an exit code.

    1: the work failed; 2: the command was misused; 130: interrupted.
    """
    # Windows consoles and pipes in other locales must not break on names with accents.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except FinickyError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; what was finished is kept", 130)
    except ModuleNotFoundError as error:
        if os.environ.get("FINICKY_TRACEBACK"):
            raise
        _fail(missing(error.name) or _defect(error), 1)
    except (OSError, MemoryError) as error:
        _fail(f"{type(error).__name__}: {error}", 1)
    except Exception as error:
        if os.environ.get("FINICKY_TRACEBACK"):
            raise
        _fail(_defect(error), 1)


def _defect(error: Exception) -> str:
    return (
        f"unexpected {type(error).__name__}: {error}. This is a defect of Finicky; "
        "FINICKY_TRACEBACK=1 shows where, please report it"
    )


def _fail(message: str, code: int) -> None:
    line = " ".join(message.split())
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(code)
