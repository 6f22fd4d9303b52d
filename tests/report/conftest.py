"""A small finished run folder, written with the functions that a sweep writes one with."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from finicky.files import write_json
from finicky.pruning import PruningPlan
from finicky.sweep.candidate import quality
from finicky.sweep.decide import decide
from finicky.sweep.folder import RunFolder
from finicky.sweep.identity import candidate_name
from finicky.sweep.inputs import TileSet
from finicky.sweep.settings import DecisionSettings, SweepSettings
from finicky.sweep.table import quality_columns

FULL_PARAMS = 14_714_688


@dataclass(frozen=True)
class MadeRun:
    """What a synthetic run holds; change it with `dataclasses.replace`.

    ``skill`` maps keep ratio to the distance of the two classes' scores in standard deviations.
    """

    skill: dict
    photos: tuple = (("train", 12), ("validation", 10), ("test", 14))
    tiles_per_photo: int = 12
    target_share: float = 0.5
    head_seeds: int = 3
    timed: bool = True
    project: str = "Bridge north"
    target: str = "crack"
    rejected: tuple = ()
    prefix: str = "photo"
    decision: DecisionSettings = DecisionSettings()


USUAL = MadeRun({1.0: 2.6, 0.5: 2.6, 0.2: 2.5, 0.1: 2.4, 0.05: 1.7, 0.02: 1.0})


def write_run(root, made=USUAL, **changes):
    """Write the run folder ``root`` and return it."""
    made = replace(made, **changes)
    folder = RunFolder(root)
    data = _tiles(made)
    rows = []
    for ratio in sorted(made.skill, reverse=True):
        metrics = _write_candidate(folder, made, data, ratio)
        rows.append(quality_columns(metrics) | (_times(ratio) if made.timed else {}))
    _write_run_json(folder, made, data)
    if made.timed:
        machine = {"cpu": "Imaginary CPU", "cores": 4}
        write_json(root / "latency.json", {"environment": machine, "batch": 1, "candidates": {}})
    decide(folder, rows, made.decision)
    return root


def _tiles(made):
    random = np.random.default_rng(3)
    splits, groups, labels = [], [], []
    for split, photos in made.photos:
        for photo in range(photos):
            marked = np.arange(made.tiles_per_photo) < made.target_share * made.tiles_per_photo
            splits += [split] * made.tiles_per_photo
            groups += [f"{made.prefix}-{split}-{photo}.jpg"] * made.tiles_per_photo
            labels += list(random.permutation(marked).astype(np.int64))
    return TileSet(np.zeros(0), np.array(labels), np.array(groups), np.array(splits))


def _write_candidate(folder, made, data, ratio):
    name = candidate_name(ratio)
    here = folder.candidate(name)
    here.mkdir(parents=True)
    by_seed = np.stack([_answers(data, made, ratio, s) for s in range(made.head_seeds)])
    deployed = _answers(data, made, ratio, made.head_seeds)
    np.savez(
        here / "predictions.npz",
        labels=data.labels,
        groups=data.groups,
        splits=data.splits,
        by_seed=by_seed,
        deployed=deployed,
    )
    kept = {"conv1": list(range(max(1, round(8 * ratio)))), "conv2": [0, 1, 2]}
    method = "none" if ratio == 1 else "finicky"
    plan = PruningPlan("vgg16", method, ratio, kept, tuple(kept), "quantile-iou")
    write_json(here / "plan.json", plan.to_json())
    params = round(FULL_PARAMS * ratio**2)
    metrics = {
        "candidate": name,
        "method": method,
        "keep_ratio": ratio,
        "channels": round(4224 * ratio),
        "params": params,
        "macs": 200 * params,
        "size_bytes": 4 * params + 6000,
        "C": 0.1,
        "repair": "reconstruct" if ratio < 1 else "none",
        "repairs": {"reconstruct": 0.8, "none": 0.7} if ratio < 1 else {"none": 0.9},
        "parity": {"tiles": 64, "difference": 3e-7, "same_class": True},
        **quality(data, by_seed, deployed, seed=0),
    }
    write_json(here / "metrics.json", metrics)
    return metrics


def _answers(data, made, ratio, seed):
    # One hardness a tile for all candidates, plus noise of each: paired, as in a real sweep.
    hardness = np.random.default_rng(1).normal(size=len(data.labels))
    noise = np.random.default_rng([2, seed, round(1000 * ratio)]).normal(size=len(data.labels))
    logits = made.skill[ratio] * (data.labels - 0.5) + 0.8 * hardness + 0.4 * noise
    return 1 / (1 + np.exp(-2 * logits))


def _times(ratio):
    one = 14.0 * ratio**1.1 + 0.4
    every = 6.0 * ratio**1.1 + 0.3
    return {
        "latency_p50_ms": one,
        "latency_p95_ms": 1.2 * one,
        "latency_all_p50_ms": every,
        "latency_all_p95_ms": 1.3 * every,
        "latency_ratio": 14.4 / one,
        "latency_all_ratio": 6.3 / every,
    }


def _write_run_json(folder, made, data):
    conditions = SweepSettings(
        keep_ratios=tuple(r for r in made.skill if r != 1), head_seeds=made.head_seeds
    ).to_json()
    keys = {s: sorted(set(data.groups[data.splits == s])) for s, _ in made.photos}
    value = {
        "format": "finicky-run",
        "version": 1,
        "conditions": conditions | {"targets": [made.target], "version": "0.1.0"},
        "project": made.project,
        "photos": keys,
        "rejected": [list(r) for r in made.rejected],
        "provenance": {"source": "random weights, seed 0", "license": "none", "sha256": None},
        "environment": {"cpu": "Imaginary CPU", "cores": 4, "os": "Linux", "python": "3.11.9"},
    }
    write_json(folder.root / "run.json", value)


@pytest.fixture(scope="session")
def usual_run(tmp_path_factory):
    """A finished run with times, shared: do not change it."""
    return write_run(tmp_path_factory.mktemp("usual") / "run")


@pytest.fixture
def make_run(tmp_path):
    """Write a run that differs from the usual one in the given fields."""

    def make(name="run", **changes):
        return write_run(tmp_path / name, **changes)

    return make
