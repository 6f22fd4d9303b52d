"""The main job: from a project to the chosen candidate and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from finicky.backbones import Backbone, load_backbone
from finicky.errors import FinickyError, StorageError
from finicky.files import atomic_path, read_json, write_json
from finicky.importance import TileOptions
from finicky.progress import Progress, silent
from finicky.project import Project
from finicky.pruning import PruningPlan
from finicky.ranking import Ranking, check_method, rank, unpruned_plan
from finicky.spool import Spool
from finicky.sweep.decide import DecisionSettings, SweepResult, decide, leading
from finicky.sweep.depth import DepthLook
from finicky.sweep.evaluator import Evaluator, NoPlanError
from finicky.sweep.events import Event, Listener, unheard
from finicky.sweep.execution import Execution, start
from finicky.sweep.executors import Outcome
from finicky.sweep.folder import DEPTH, IMPORTANCE, LATENCY, METRICS, RUN, RunFolder, remove
from finicky.sweep.identity import Candidate
from finicky.sweep.inputs import (
    Evidence,
    TileSet,
    fingerprint,
    gather_evidence,
    load_tiles,
    make_tiles,
)
from finicky.sweep.maps import keep_crops
from finicky.sweep.search import SearchSettings
from finicky.sweep.searching import Searcher
from finicky.sweep.settings import SweepSettings
from finicky.sweep.table import failed_row, quality_columns
from finicky.sweep.timing import time_candidates
from finicky.sweep.trained import training_tiles
from finicky.sweep.workbench import Workbench
from finicky.timing import environment


def run_sweep(
    project: Project,
    out: Path,
    settings: SweepSettings = SweepSettings(),
    decision: DecisionSettings = DecisionSettings(),
    *,
    execution: Execution = Execution(),
    search: SearchSettings | None = None,
    force: bool = False,
    progress: Progress = silent,
    listen: Listener = unheard,
) -> SweepResult:
    """Score, cut, train, test, time and choose; what an earlier start finished is not redone.

    Args:
        project: Labelled photos.
        out: The run folder: new, empty, or of an earlier start of the same run.
        settings: What to try.
        decision: How to choose.
        execution: Where candidates are made; changes no number.
        search: Which keep ratios to look for the best among; ``None``: evaluate all that the
            settings name.
        force: Throw away an earlier run under other conditions.
        progress: Told what is done of what.
        listen: Told of every candidate, and of damaged files; see `Event`.

    Raises:
        UsageError: The folder is taken, or a setting is out of range.
        DataError: The photos do not suffice, no candidate keeps the limits, or another process
            works in the folder.
        StorageError: A file could not be written; what was finished is kept.
    """
    folder = RunFolder(Path(out))
    with folder.owned():
        try:
            sweep = _Sweep(project, folder, settings, execution, progress, listen)
            return sweep.run(decision, search, force=force)
        except BaseException as error:
            folder.note_end(error)
            raise


class _Sweep:
    """One sweep: its inputs, and the steps in order."""

    def __init__(
        self,
        project: Project,
        folder: RunFolder,
        settings: SweepSettings,
        execution: Execution,
        progress: Progress,
        listen: Listener,
    ) -> None:
        self._project, self._folder, self._settings = project, folder, settings
        self._execution = execution
        self._progress, self._listen = progress, listen
        self._backbone = load_backbone(
            settings.backbone,
            weights=settings.weights,
            arch=settings.arch,
            preprocessing=settings.preprocessing,
        )
        self._backbone.check_size(settings.tile)
        check_method(settings.method, self._backbone)
        self._depth = DepthLook(self._backbone, settings.tile, settings.depth)
        self._evidence = gather_evidence(project, settings, progress=progress)

    def run(
        self, decision: DecisionSettings, search: SearchSettings | None, *, force: bool
    ) -> SweepResult:
        folder, settings = self._folder, self._settings
        self._open(force)
        with Spool() as spool:
            data = self._tiles(spool)
            outcomes = self._evaluate(data, decision, search)
            self._look_deep(data)
            done = [o.metrics for o in outcomes if o.metrics is not None]
            # Last and alone: what is made at the same time would slow what is clocked.
            self._stale("latency", folder.root / LATENCY)
            timed = time_candidates(
                folder,
                [str(metrics["candidate"]) for metrics in done],
                np.array(data.tiles[data.rows("validation")[:1]]),
                seconds=settings.latency_seconds,
                progress=self._progress,
            )
        if settings.method == "finicky" and self._stale("importance", folder.root / IMPORTANCE):
            _ = self._ranking
        rows = [quality_columns(m) | timed.get(m["candidate"], {}) for m in done]
        failed = [failed_row(o.candidate, o.reason) for o in outcomes if o.metrics is None]
        if settings.maps:
            self._crops()
        return decide(folder, rows, decision, failed=failed, progress=self._progress)

    def _open(self, force: bool) -> None:
        conditions = fingerprint(
            self._project, self._evidence, self._settings, self._backbone.provenance.sha256
        )
        self._folder.open(conditions, force=force)
        _write_run(self._folder, self._project, self._evidence, self._backbone, conditions)
        self._folder.journal.append("started")
        names = [Candidate(*each).name for each in self._settings.candidates()]
        there = sum((self._folder.candidate(name) / METRICS).is_file() for name in names)
        self._listen(Event("started", {"candidates": len(names), "finished": there}))

    def _tiles(self, spool: Spool) -> TileSet:
        folder, progress = self._folder, self._progress
        fresh = self._stale("tiles", folder.tiles)
        table = make_tiles(
            self._project, self._evidence, self._settings, folder.tiles, progress=progress
        )
        if fresh:
            folder.record("tiles", folder.tiles.rglob("*"))
        size, targets = self._settings.tile, self._evidence.targets
        return load_tiles(table, spool, size=size, targets=targets, progress=progress)

    def _evaluate(
        self, data: TileSet, decision: DecisionSettings, search: SearchSettings | None
    ) -> list[Outcome]:
        """Every candidate, or those that a search asks for; each at every depth asked for."""
        candidates = [Candidate(*each) for each in self._settings.candidates()]
        bench = Workbench(
            self._backbone,
            data,
            self._settings,
            self._evidence.targets[0],
            self._progress,
            cut_training=partial(
                training_tiles,
                self._project,
                self._evidence,
                data,
                self._settings,
                progress=self._progress,
            ),
        )
        with (
            self._folder.scratch() as place,
            start(self._execution, bench, place, progress=self._progress) as executor,
        ):
            evaluator = Evaluator(
                self._folder,
                executor,
                self._plan,
                leader=partial(leading, decision),
                listen=self._listen,
            )
            if search is not None:
                searcher = Searcher(search, bench, evaluator, self._plan, self._folder, decision)
                found = searcher.run(progress=self._progress)
                earlier = self._ends(data, [one.candidate for one in found])
                return found + (evaluator.evaluate(earlier) if earlier else [])
            return evaluator.evaluate([*candidates, *self._ends(data, candidates)])

    def _ends(self, data: TileSet, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The same candidates, ended at earlier layers."""
        seen = self._look_deep(data) if self._depth.must_look_first else None
        return [
            replace(one, depth=layer)
            for layer in self._depth.ends(seen)
            for one in candidates
            if not one.unpruned
        ]

    def _plan(self, candidate: Candidate) -> PruningPlan:
        if candidate.unpruned:
            return unpruned_plan(self._backbone)
        ranking = self._ranking  # without which there is no run
        try:
            if candidate.depth:
                return self._depth.plan(ranking, candidate)
            return ranking.plan(candidate.keep_ratio)
        except StorageError:
            raise
        except FinickyError as error:
            raise NoPlanError(str(error)) from error

    def _look_deep(self, data: TileSet) -> dict[str, Any]:
        """At which depth the network sees the target, and what a tile's texture alone tells."""
        path = self._folder.root / DEPTH
        if self._stale("depth", path):
            splits, seed = self._evidence.splits, self._settings.seed
            seen = self._depth.look(self._ranking, data, splits, seed=seed, progress=self._progress)
            write_json(path, seen)
            self._folder.record("depth", [path])
        found: dict[str, Any] = read_json(path)
        return found

    @cached_property
    def _ranking(self) -> Ranking:
        settings = self._settings
        ranking = rank(
            self._backbone,
            self._evidence.scoring,
            classes=self._project.classes,
            targets=self._evidence.targets,
            method=settings.method,
            criterion_name=settings.criterion,
            round_to=settings.round_to,
            tiles=TileOptions(size=settings.tile, min_coverage=settings.min_coverage),
            seed=settings.seed,
            progress=self._progress,
        )
        if ranking.scores:  # the original method has none of the unpruned network
            path = self._folder.root / IMPORTANCE
            with atomic_path(path) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **ranking.scores)  # type: ignore[arg-type]
            self._folder.record("importance", [path])
        return ranking

    def _crops(self) -> None:
        folder = self._folder
        fresh = self._stale("crops", folder.crops)
        keep_crops(self._project, self._evidence, self._settings, folder, progress=self._progress)
        if fresh:
            folder.record("crops", folder.crops.rglob("*"))

    def _stale(self, step: str, place: Path) -> bool:
        """Whether a step is to be done (again); then nothing is left of an earlier try."""
        changed = self._folder.changed(step)
        for file in changed or ():
            self._listen(Event("damaged", {"file": file}))
        if changed == []:
            return False
        remove(place)
        return True


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
