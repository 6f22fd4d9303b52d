"""The main job: from a project to the chosen candidate and the table of all of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from finicky.backbones import load_backbone
from finicky.errors import FinickyError, StorageError
from finicky.files import atomic_path, read_json, write_json
from finicky.importance import TileOptions
from finicky.progress import Progress, silent
from finicky.project import Project
from finicky.pruning import PruningPlan
from finicky.pruning.budget import Budget
from finicky.ranking import Ranking, check_method, rank, remembered, unpruned_plan
from finicky.spool import Spool
from finicky.sweep.after_search import train_few
from finicky.sweep.decide import SweepResult, decide, leading
from finicky.sweep.depth import DepthLook
from finicky.sweep.evaluator import Evaluator, NoPlanError
from finicky.sweep.events import Event, Listener, unheard
from finicky.sweep.execution import Execution, start
from finicky.sweep.executors import Outcome
from finicky.sweep.extent import Extent
from finicky.sweep.folder import (
    DEPTH,
    DONE,
    IMPORTANCE,
    LATENCY,
    METRICS,
    SEARCH,
    STARTED,
    RunFolder,
    read_arrays,
    remove,
)
from finicky.sweep.identity import Candidate
from finicky.sweep.inputs import (
    Evidence,
    TileSet,
    fingerprint,
    gather_evidence,
    load_tiles,
    make_tiles,
)
from finicky.sweep.limits import Limit, limit_of
from finicky.sweep.maps import keep_crops
from finicky.sweep.record import Asked, write_run
from finicky.sweep.search import SearchSettings
from finicky.sweep.searching import Searcher
from finicky.sweep.settings import DecisionSettings, SweepSettings
from finicky.sweep.table import failed_row, quality_columns
from finicky.sweep.timing import time_candidates
from finicky.sweep.trained import training_tiles
from finicky.sweep.workbench import Workbench


def run_sweep(
    project: Project,
    out: Path,
    settings: SweepSettings = SweepSettings(),
    decision: DecisionSettings = DecisionSettings(),
    *,
    execution: Execution = Execution(),
    search: SearchSettings | None = None,
    budgets: Sequence[Budget] = (),
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
        budgets: What a network may cost; larger ones are not tried. See `Limit`.
        force: Throw away an earlier run under other conditions.
        progress: Told what is done of what.
        listen: Told of every candidate, and of damaged files; see `Event`.

    Raises:
        UsageError: The folder is taken, a setting is out of range, or no cut keeps the budgets;
            all but the first before anything is made.
        DataError: The photos do not suffice, no candidate keeps the limits, or another process
            works in the folder.
        StorageError: A file could not be written; what was finished is kept.
    """
    steps = sweeping(
        project,
        out,
        settings,
        decision,
        execution=execution,
        search=search,
        budgets=budgets,
        force=force,
        progress=progress,
        listen=listen,
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: SweepResult = end.value
            return result


def sweeping(
    project: Project,
    out: Path,
    settings: SweepSettings,
    decision: DecisionSettings,
    *,
    execution: Execution,
    search: SearchSettings | None,
    budgets: Sequence[Budget],
    limit: Limit | None = None,
    force: bool,
    progress: Progress,
    listen: Listener,
) -> Generator[Outcome, None, SweepResult]:
    """What `run_sweep` does, candidate by candidate as they come; closed early, it is stopped.

    ``limit``: what budgets left when they were worked out before.
    """
    execution.refuse_missing()
    folder = RunFolder(Path(out))
    sweep = _Sweep(project, folder, settings, execution, progress, listen)
    limit = limit or sweep.limit(budgets)
    with folder.owned():
        try:
            return (
                yield from sweep.run(
                    limit.decision(decision), limit.search(search), limit, force=force
                )
            )
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

    def limit(self, budgets: Sequence[Budget]) -> Limit:
        """What budgets leave; ratios above it are tried no more."""
        limit = limit_of(self._backbone, self._settings, budgets, progress=self._progress)
        self._settings = limit.settings(self._settings)
        return limit

    def run(
        self,
        decision: DecisionSettings,
        search: SearchSettings | None,
        limit: Limit,
        *,
        force: bool,
    ) -> Generator[Outcome, None, SweepResult]:
        folder, settings = self._folder, self._settings
        self._open(decision, search, limit, force)
        with Spool() as spool:
            data = self._tiles(spool)
            outcomes = yield from self._evaluate(data, decision, search)
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
        if search is None:  # the table is not a search's any more
            remove(folder.root / SEARCH)
        result = decide(folder, rows, decision, failed=failed, progress=self._progress)
        folder.journal.append(DONE)
        return result

    @cached_property
    def _evidence(self) -> Evidence:
        return gather_evidence(self._project, self._settings, progress=self._progress)

    def _open(
        self, decision: DecisionSettings, search: SearchSettings | None, limit: Limit, force: bool
    ) -> None:
        conditions = fingerprint(
            self._project, self._evidence, self._settings, self._backbone.provenance.sha256
        )
        self._folder.open(conditions, force=force)
        asked = Asked(self._settings, decision, search, limit)
        write_run(self._folder, self._project, self._evidence, self._backbone, conditions, asked)
        self._folder.journal.append(STARTED)
        there = len(list(self._folder.root.glob(f"candidates/*/{METRICS}")))
        facts = {"out": str(self._folder.root), "finished": there, "most_kept": limit.keep_ratio}
        self._listen(Event("started", {**facts, "candidates": self._count(search)}))

    def _count(self, search: SearchSettings | None) -> int | None:
        """How many candidates there will be, if that is known before anything was looked at."""
        if search is not None or self._depth.must_look_first:
            return None
        return Extent(self._settings, None, len(self._depth.ends(None))).candidates

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
    ) -> Generator[Outcome, None, list[Outcome]]:
        """Every candidate, or those that a search asks for; each at every depth asked for."""
        candidates = [Candidate(*each) for each in self._settings.candidates()]
        ends = self._ends(data)
        extent = Extent(self._settings, search, len(ends))
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
            train_time_s=extent.time_each_s,
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
                expected=extent.candidates,
                trained=extent.trained,
                sure=search is None,
                listen=self._listen,
            )
            if search is not None:
                yield from Searcher(
                    search, bench, evaluator, executor, self._plan, self._folder, decision
                ).run()
                found = [outcome.candidate for outcome in evaluator.outcomes.values()]
                candidates = sorted(found, key=lambda candidate: -candidate.keep_ratio)
            candidates += _ended(candidates, ends)
            yield from evaluator.each(candidates)
            outcomes = [evaluator.outcomes[one.name] for one in candidates]
            if self._settings.trains_few:
                outcomes += yield from train_few(extent.ratios, evaluator.each)
            return outcomes

    def _ends(self, data: TileSet) -> tuple[str, ...]:
        """Earlier layers at which candidates end too."""
        seen = self._look_deep(data) if self._depth.must_look_first else None
        return self._depth.ends(seen)

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
        settings, folder = self._settings, self._folder
        # What was seen of the photos is not kept; only the look at depth asks for it.
        if folder.changed("importance") == [] and folder.changed("depth") == []:
            scores = read_arrays(folder.root / IMPORTANCE)
            return remembered(self._backbone, scores, settings.criterion, settings.round_to)
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


def _ended(candidates: Sequence[Candidate], ends: Sequence[str]) -> list[Candidate]:
    """The same candidates, ended at earlier layers."""
    return [replace(c, depth=layer) for layer in ends for c in candidates if not c.unpruned]
