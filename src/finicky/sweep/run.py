"""The main job: from a project to the chosen candidate and the table of all of them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finicky.backbones import Backbone, load_backbone
from finicky.files import atomic_path, write_json
from finicky.importance import TileOptions
from finicky.progress import Progress, silent, titled
from finicky.project import Project
from finicky.ranking import Ranking, check_method, rank, unpruned_plan
from finicky.spool import Spool
from finicky.sweep.candidate import candidate_name, evaluate_candidate
from finicky.sweep.decide import DecisionSettings, SweepResult, decide
from finicky.sweep.folder import IMPORTANCE, RUN, RunFolder
from finicky.sweep.inputs import (
    Evidence,
    TileSet,
    fingerprint,
    gather_evidence,
    load_tiles,
    make_tiles,
)
from finicky.sweep.maps import keep_crops
from finicky.sweep.settings import SweepSettings
from finicky.sweep.table import quality_columns
from finicky.sweep.timing import time_candidates
from finicky.timing import environment
from finicky.training import ReconstructionSettings, Reconstructor


def run_sweep(
    project: Project,
    out: Path,
    settings: SweepSettings = SweepSettings(),
    decision: DecisionSettings = DecisionSettings(),
    *,
    force: bool = False,
    progress: Progress = silent,
) -> SweepResult:
    """Score, cut, train, test, time and choose; what an earlier start finished is not redone.

    Args:
        project: Labelled photos.
        out: The run folder: new, empty, or of an earlier start of the same run.
        settings: What to try.
        decision: How to choose.
        force: Throw away an earlier run under other conditions.
        progress: Told what is done of what.

    Raises:
        UsageError: The folder is taken, or a setting is out of range.
        DataError: The photos do not suffice, or no candidate keeps the limits.
    """
    backbone = load_backbone(
        settings.backbone,
        weights=settings.weights,
        arch=settings.arch,
        preprocessing=settings.preprocessing,
    )
    backbone.check_size(settings.tile)
    check_method(settings.method, backbone)
    evidence = gather_evidence(project, settings, progress=progress)
    folder = RunFolder(Path(out))
    conditions = fingerprint(project, evidence, settings, backbone.provenance.sha256)
    folder.open(conditions, force=force)
    _write_run(folder, project, evidence, backbone, conditions)
    table = make_tiles(project, evidence, settings, folder.tiles, progress=progress)
    with Spool() as spool:
        data = load_tiles(
            table, spool, size=settings.tile, targets=evidence.targets, progress=progress
        )
        found = _candidates(backbone, evidence, project, settings, data, folder, progress)
        timed = time_candidates(
            folder,
            list(found),
            np.array(data.tiles[data.rows("validation")[:1]]),
            seconds=settings.latency_seconds,
            progress=progress,
        )
    rows = [quality_columns(metrics) | timed.get(name, {}) for name, metrics in found.items()]
    if settings.maps:
        keep_crops(project, evidence, settings, folder, progress=progress)
    return decide(folder, rows, decision, progress=progress)


def _candidates(
    backbone: Backbone,
    evidence: Evidence,
    project: Project,
    settings: SweepSettings,
    data: TileSet,
    folder: RunFolder,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """``metrics.json`` of every candidate by name, the unpruned network first."""
    names = {candidate_name(ratio): ratio for ratio in settings.ratios()}
    ranking: Ranking | None = None
    reconstructor: Reconstructor | None = None
    found: dict[str, dict[str, Any]] = {}
    for number, (name, ratio) in enumerate(names.items(), start=1):
        done = folder.finished(name)
        if done is None:
            if ranking is None:
                ranking = _rank(backbone, evidence, project, settings, folder, progress)
            report = titled(progress, f"candidate {number} of {len(names)} ({name})")
            plan = unpruned_plan(backbone) if ratio == 1 else ranking.plan(ratio)
            if ratio < 1 and "reconstruct" in settings.repairs and reconstructor is None:
                reconstructor = make_reconstructor(backbone, data, settings, progress)
            done = evaluate_candidate(
                backbone,
                plan,
                data,
                settings,
                folder,
                evidence.targets[0],
                reconstructor=reconstructor,
                progress=report,
            )
        found[name] = done
    return found


def make_reconstructor(
    backbone: Backbone, data: TileSet, settings: SweepSettings, progress: Progress = silent
) -> Reconstructor:
    """Shows the unpruned network a random draw of training tiles."""
    options = ReconstructionSettings(seed=settings.seed)
    train = np.random.default_rng(settings.seed).permutation(data.rows("train"))
    tiles = np.array(data.tiles[np.sort(train[: options.tiles])])
    inputs = backbone.preprocessing(torch.from_numpy(tiles))
    return Reconstructor(backbone, inputs, options, progress=progress)


def _rank(
    backbone: Backbone,
    evidence: Evidence,
    project: Project,
    settings: SweepSettings,
    folder: RunFolder,
    progress: Progress,
) -> Ranking:
    ranking = rank(
        backbone,
        evidence.scoring,
        classes=project.classes,
        targets=evidence.targets,
        method=settings.method,
        criterion_name=settings.criterion,
        round_to=settings.round_to,
        tiles=TileOptions(size=settings.tile, min_coverage=settings.min_coverage),
        seed=settings.seed,
        progress=progress,
    )
    if ranking.scores:  # the original method has none of the unpruned network
        with atomic_path(folder.root / IMPORTANCE) as path, path.open("wb") as stream:
            np.savez(stream, **ranking.scores)  # type: ignore[arg-type]
    return ranking


def _write_run(
    folder: RunFolder,
    project: Project,
    evidence: Evidence,
    backbone: Backbone,
    conditions: dict[str, Any],
) -> None:
    groups: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for pair in evidence.usable:
        split, _ = evidence.splits[pair.key]
        groups[split].append(pair.key)
    value = {
        "format": "finicky-run",
        "version": 1,
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "conditions": conditions,
        "project": project.root.name,
        "photos": groups,
        "rejected": [[str(r.path), r.reason] for r in evidence.rejected],
        "provenance": backbone.provenance.to_json(),
        "environment": environment(),
    }
    write_json(folder.root / RUN, value)
