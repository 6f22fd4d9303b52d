"""``finicky train-backbone``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train-backbone")(train_backbone)


def train_backbone(
    name: Annotated[str, typer.Argument(help="vgg16, alexnet, alexnet-bn or efficientnet-lite0.")],
    data: Annotated[Path, typer.Option(help="Class folders: DATA/<class>/*.jpg.")],
    out: options.OutFolder,
    size: Annotated[int, typer.Option(help="Side in px that photos are brought to.")] = 96,
    epochs: Annotated[int, typer.Option(help="Passes over the training photos.")] = 20,
    batch: Annotated[int, typer.Option(help="Photos in one step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Largest step size of AdamW.")] = 1e-3,
    split_file: Annotated[
        Path | None, typer.Option(help="CSV with image, split and group; default: by hash.")
    ] = None,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Train a backbone from scratch on class folders, as the method's AlexNet was."""
    from finicky.training.scratch import ScratchSettings, train_backbone

    settings = ScratchSettings(
        size=size, epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed
    )
    with ConsoleProgress() as progress:
        report = train_backbone(
            name, data, out, settings, split_file=split_file, force=force, progress=progress
        )
    print(
        f"balanced accuracy on validation {report.balanced_accuracy:.3f} "
        f"({report.validation_tiles} photos), best of {report.epochs} epochs"
    )
    print(f"wrote {out}; use it with --backbone {out}")
