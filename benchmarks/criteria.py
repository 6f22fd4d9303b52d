"""Which criterion should be the default? Validation quality of each, on real photos.

    python benchmarks/criteria.py DATA... [--keep 0.1,0.25] [--seeds 0,1,2] [--out FILE.csv]

One scoring pass a data set and seed; every criterion is read off the same statistics. The frozen
network is cut, reconstructed and given a head as in ``finicky run``. Only training and validation
photos are looked at. A seed moves photos between training and validation, and draws everything
else anew.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from finicky.backbones import convolutions, load_backbone
from finicky.evaluation import score_predictions
from finicky.importance import collect, find_taps, scoring_batches
from finicky.importance.overlap import best_iou, quantile_iou, rank_separation
from finicky.project import Project
from finicky.pruning import cut, find_groups, plan_from_scores
from finicky.spool import Spool
from finicky.sweep import SweepSettings
from finicky.sweep.inputs import gather_evidence, load_tiles, make_tiles
from finicky.sweep.workbench import make_reconstructor
from finicky.training import extract, train_head

CRITERIA = {
    **{
        f"quantile-iou {q}": partial(quantile_iou, top_share=q)
        for q in (0.005, 0.01, 0.02, 0.05, 0.1)
    },
    "best-iou": best_iou,
    "rank": rank_separation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--keep", default="0.1,0.25")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for data in options.data:
        for seed in map(int, options.seeds.split(",")):
            for row in measure(data, seed, [float(r) for r in options.keep.split(",")]):
                print(*row.values(), sep="\t", flush=True)
                rows.append(row)
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def measure(data: Path, seed: int, ratios: list[float]):  # type: ignore[no-untyped-def]
    """Rows of one data set and seed."""
    settings = SweepSettings(seed=seed)
    backbone = load_backbone("vgg16")
    project = Project.open(data)
    evidence = gather_evidence(project, settings)
    statistics = collect(
        backbone.module,
        find_taps(backbone.module, 64),
        scoring_batches(
            evidence.scoring,
            classes=project.classes,
            targets=evidence.targets,
            preprocessing=backbone.preprocessing,
        ),
    )
    groups = find_groups(backbone.module, 64)
    random = np.random.default_rng(seed)
    layers = convolutions(backbone.module)
    rankings = {"random": {n: random.random(c.out_channels) for n, c in layers.items()}}
    for name, criterion in CRITERIA.items():
        rankings[name] = {layer: criterion(found) for layer, found in statistics.items()}
    with tempfile.TemporaryDirectory() as folder, Spool() as spool:
        table = make_tiles(project, evidence, settings, Path(folder) / "tiles")
        tiles = load_tiles(table, spool, size=settings.tile, targets=evidence.targets)
        reconstructor = make_reconstructor(backbone, tiles, settings)
        for name, scores in rankings.items():
            for ratio in ratios:
                plan = plan_from_scores(groups, scores, ratio, backbone="vgg16", criterion=name)
                module = cut(backbone.module, plan.decisions, settings.tile)
                reconstructor.apply(module, plan.kept)
                yield {
                    "data": data.name,
                    "seed": seed,
                    "criterion": name,
                    "keep_ratio": ratio,
                    **_quality(backbone.with_module(module), tiles, settings),
                }


def _quality(backbone, tiles, settings) -> dict[str, float]:  # type: ignore[no-untyped-def]
    train, held_out = tiles.rows("train"), tiles.rows("validation")
    rows = np.concatenate([train, held_out])
    with Spool() as spool:
        found = extract(backbone, tiles.tiles[rows], spool, kind=settings.features)
        head = train_head(found[: len(train)], tiles.labels[train], tiles.groups[train])
        answers = head.probabilities(found[len(train) :])
    quality = score_predictions(tiles.labels[held_out], answers)
    return {
        "val_balanced_accuracy": round(quality.balanced_accuracy, 4),
        "val_auroc": round(quality.auroc, 4),
    }


if __name__ == "__main__":
    main()
