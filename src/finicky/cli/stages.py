"""``finicky features``, ``train`` and ``test``: the stages of the main job, one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress

Vectors = Annotated[Path, typer.Argument(help="File that finicky features wrote.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(features)
    app.command()(train)
    app.command()(test)


def features(
    model: Annotated[
        str, typer.Argument(help="Folder of a pruned network, or the name of a backbone.")
    ],
    tiles: Annotated[Path, typer.Option(help="Class folders, as finicky tiles writes them.")],
    out: Annotated[Path, typer.Option(help="File to write, such as features.npz.")],
    kind: options.Features = "mean+max",
    tile: options.TileSize = 96,
    target: Annotated[str, typer.Option(help="Name of the class to find.")] = "crack",
    weights: options.WeightsSource = None,
    arch: options.Arch = None,
    preprocessing: options.PreprocessingName = None,
    split_file: Annotated[
        Path | None, typer.Option(help="CSV with image, split and group, for plain class folders.")
    ] = None,
    seed: options.Seed = 0,
) -> None:
    """Turn tiles into feature vectors with a network, pruned or not."""
    from finicky.training.stages import write_features

    with ConsoleProgress() as progress:
        count, length = write_features(
            model,
            tiles,
            out,
            kind=kind,
            tile=tile,
            target=target,
            weights=weights,
            arch=arch,
            preprocessing=preprocessing,
            split_file=split_file,
            seed=seed,
            progress=progress,
        )
    print(f"wrote {count} vectors of {length} numbers to {out}")


def train(
    vectors: Vectors,
    out: Annotated[Path, typer.Option(help="File to write, such as head.safetensors.")],
    seed: options.Seed = 0,
) -> None:
    """Train the head, logistic regression with cross-validated C, on the training split."""
    from finicky.training.stages import train_from_file

    head = train_from_file(vectors, seed=seed)
    head.save(out)
    print(f"C {head.C:g}, log loss {head.cv_loss:.3f} in cross-validation; wrote {out}")


def test(
    vectors: Vectors,
    head: Annotated[Path, typer.Option(help="File that finicky train wrote.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    as_json: options.AsJson = False,
) -> None:
    """Quality of a head on a split, each number with its 95 % interval by photograph."""
    from finicky.evaluation import bootstrap_metrics
    from finicky.training.stages import predict_from_file

    labels, probabilities, groups = predict_from_file(vectors, head, split)
    found = bootstrap_metrics(labels, probabilities, groups)
    if as_json:
        plain = {name: [i.value, i.low, i.high] for name, i in found.items()}
        print(json.dumps(plain))
        return
    for name, interval in found.items():
        print(
            f"{name.replace('_', ' '):<18}{interval.value:.3f} "
            f"({interval.low:.3f} to {interval.high:.3f})"
        )
