"""How much should reconstruction look at, and how firmly hold the old weights? Validation only.

python benchmarks/reconstruction.py DATA... [--keep 0.1,0.25] [--seeds 0]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from criteria import _quality

from finicky.backbones import load_backbone
from finicky.project import Project
from finicky.pruning import cut
from finicky.ranking import rank
from finicky.spool import Spool
from finicky.sweep import SweepSettings
from finicky.sweep.inputs import gather_evidence, load_tiles, make_tiles
from finicky.training import ReconstructionSettings, Reconstructor

VARIANTS = {
    "none": None,
    "256 tiles, 40 places": ReconstructionSettings(tiles=256, positions=40),
    "512 tiles, 24 places": ReconstructionSettings(),
    "1024 tiles, 12 places": ReconstructionSettings(tiles=1024, positions=12),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--keep", default="0.1,0.25")
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    for data in options.data:
        for seed in map(int, options.seeds.split(",")):
            measure(data, seed, [float(r) for r in options.keep.split(",")])


def measure(data: Path, seed: int, ratios: list[float]) -> None:
    """Print validation quality of every variant on one data set and seed."""
    settings = SweepSettings(seed=seed)
    backbone = load_backbone("vgg16")
    project = Project.open(data)
    evidence = gather_evidence(project, settings)
    ranking = rank(
        backbone,
        evidence.scoring,
        classes=project.classes,
        targets=evidence.targets,
        round_to=settings.round_to,
    )
    with tempfile.TemporaryDirectory() as folder, Spool() as spool:
        table = make_tiles(project, evidence, settings, Path(folder) / "tiles")
        tiles = load_tiles(table, spool, size=settings.tile, targets=evidence.targets)
        train = np.random.default_rng(seed).permutation(tiles.rows("train"))
        for name, variant in VARIANTS.items():
            reconstructor = None
            if variant is not None:
                some = np.array(tiles.tiles[np.sort(train[: variant.tiles])])
                inputs = backbone.preprocessing(torch.from_numpy(some))
                reconstructor = Reconstructor(backbone, inputs, variant)
            for ratio in ratios:
                plan = ranking.plan(ratio)
                module = cut(backbone.module, plan.decisions, settings.tile)
                if reconstructor is not None:
                    reconstructor.apply(module, plan.kept)
                found = _quality(backbone.with_module(module), tiles, settings)
                print(data.name, seed, ratio, name, *found.values(), sep="\t", flush=True)


if __name__ == "__main__":
    main()
