"""A search at work: glances and evaluations of real networks, remembered in the run folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from finicky.errors import DataError, UnsupportedModelError
from finicky.files import write_json
from finicky.selection import CandidateMeasure, choose
from finicky.sweep.evaluator import Evaluator, NoPlanError, Plans
from finicky.sweep.executors import Executor, Outcome, Task
from finicky.sweep.folder import SEARCH, RunFolder
from finicky.sweep.glance import Seen
from finicky.sweep.identity import Candidate
from finicky.sweep.search import Look, Search, SearchSettings, Step
from finicky.sweep.settings import DecisionSettings
from finicky.sweep.workbench import Workbench

GLANCED = "glanced"


class Searcher:
    """Carries out the steps of a `Search`.

    Args:
        settings: How thoroughly is searched.
        bench: Backbone, tiles and settings of the run.
        evaluator: Makes full candidates.
        executor: Makes glances.
        plans: What stays under a candidate.
        folder: Of the run; glances are remembered in its journal.
        decision: How the best is chosen.
    """

    def __init__(
        self,
        settings: SearchSettings,
        bench: Workbench,
        evaluator: Evaluator,
        executor: Executor,
        plans: Plans,
        folder: RunFolder,
        decision: DecisionSettings,
    ) -> None:
        self._settings, self._bench = settings, bench
        self._evaluator, self._executor = evaluator, executor
        self._plans, self._folder, self._decision = plans, folder, decision
        self._seen: dict[tuple[float, float], Seen] = {}
        self._macs: dict[float, float] = {}

    def run(self) -> Iterator[Outcome]:
        """Search to the end; outcomes of what is evaluated in full, as they come.

        What an earlier start of the run looked at is not looked at again. The trail is written to
        ``search.json``.
        """
        self._recall()
        yield from self._evaluate((1.0,))
        settings, self._macs = self._distinct()
        search = Search(settings, self._macs)
        while not (step := search.step(self._looks())).last:
            if step.share == 1:
                yield from self._evaluate(step.ratios)
            else:
                self._glance(step.ratios, step.share)
        self._write(search.trail(self._looks()))

    def _evaluate(self, ratios: Sequence[float]) -> Iterator[Outcome]:
        """Full candidates of every kind of training; the best of them stands for its ratio."""
        kinds = self._bench.settings.kinds
        wanted = [
            Candidate(ratio, kind) if ratio < 1 else Candidate(ratio)
            for ratio in ratios
            for kind in (kinds if ratio < 1 else kinds[:1])
        ]
        best: dict[float, Seen] = {}
        yield from self._evaluator.each(wanted)
        for outcome in (self._evaluator.outcomes[one.name] for one in wanted):
            seen = _of_metrics(outcome)
            kept = best.get(seen.keep_ratio)
            if kept is None or self._score(seen) > self._score(kept) or math.isnan(kept.f1):
                best[seen.keep_ratio] = seen
        self._seen |= {(seen.keep_ratio, 1.0): seen for seen in best.values()}

    def _glance(self, ratios: Sequence[float], share: float) -> None:
        """Looks, side by side if the executor can; what fails has no score and is passed over."""
        full = self._seen[1.0, 1.0].macs
        cost = sum(self._macs.get(ratio, full) for ratio in ratios) / (full * len(ratios))
        tasks = self._tasks(ratios, share)
        for outcome in self._executor.run(tasks, len(ratios), cost=cost):
            if outcome.metrics is None:
                seen = Seen(outcome.candidate.keep_ratio, share)
                # What may go well another time is tried again by the next start.
                self._note(seen, outcome.reason, keep=outcome.final)
            else:
                self._note(Seen.from_json(outcome.metrics))

    def _tasks(self, ratios: Sequence[float], share: float) -> Iterator[Task]:
        for number, ratio in enumerate(ratios, start=1):
            try:
                plan = self._plans(Candidate(ratio))
            except NoPlanError as error:
                self._note(Seen(ratio, share), str(error))
                continue
            title = f"glance {number} of {len(ratios)}"
            yield Task(Candidate(ratio), plan, self._folder.root, title, share)

    def _note(self, seen: Seen, reason: str = "", *, keep: bool = True) -> None:
        plain = seen.to_json() | ({"reason": reason} if reason else {})
        if keep:
            self._folder.journal.append(GLANCED, **plain)
        self._seen[seen.keep_ratio, seen.share] = seen

    def _recall(self) -> None:
        """Glances of earlier starts; a record that is not ours is made again."""
        for record in self._folder.journal.read()[0]:
            if record["event"] == GLANCED:
                seen = Seen.from_json(record)
                self._seen[seen.keep_ratio, seen.share] = seen

    def _distinct(self) -> tuple[SearchSettings, dict[float, float]]:
        """The grid without ratios that keep the same channels, and each one's operations."""
        bench, tile = self._bench, self._bench.settings.tile
        full = self._seen[1.0, 1.0].macs
        if bench.settings.method == "original":  # every plan costs a pass over the photos
            return self._settings, {r: full * r * r for r in self._settings.grid}
        macs: dict[float, float] = {}
        kept: list[Mapping[str, list[int]]] = []
        reason = ""
        for ratio in self._settings.grid:
            try:
                plan = self._plans(Candidate(ratio))
                if not kept or plan.kept != kept[-1]:
                    macs[ratio] = bench.cutter().counts(plan.decisions, tile).macs
                    kept.append(plan.kept)
            except (NoPlanError, UnsupportedModelError) as error:
                reason = str(error)
        if not macs:
            raise DataError(f"no keep ratio of the search can be cut: {reason}")
        return replace(self._settings, grid=tuple(macs)), macs

    def _looks(self) -> list[Look]:
        return [
            Look(seen.keep_ratio, seen.share, self._score(seen), seen.f1)
            for seen in self._seen.values()
        ]

    def _score(self, seen: Seen) -> float:
        """The decision function, with multiply-accumulates for time, which is clocked later.

        What breaks a limit comes after all that keeps them.
        """
        reference = _measure(self._seen.get((1.0, 1.0), seen), self._seen.get((1.0, 1.0), seen))
        measure = _measure(seen, self._seen.get((1.0, 1.0), seen))
        decision = self._decision
        weights = None if decision.decision == "published" else decision.weights
        if weights is not None and not self._bench.settings.latency_seconds:
            weights = replace(weights, time=0)
        limits = replace(decision.constraints, max_latency_ms=None)

        def score(**more: Any) -> float:
            kind: Any = decision.decision
            choice = choose([measure], reference, decision=kind, weights=weights, **more)
            return choice.scores[0]

        try:
            return score(constraints=limits)
        except DataError:
            try:
                return score() - 10
            except DataError:  # F1 is undefined
                return math.nan

    def _write(self, steps: Sequence[Step]) -> None:
        """The trail: every step, why it was taken, and what was seen."""
        told = [{"why": s.why, "share": s.share, "ratios": list(s.ratios)} for s in steps]
        seen = [one.to_json() for _, one in sorted(self._seen.items(), reverse=True)]
        value = {
            "format": "finicky-search",
            "version": 1,
            "tolerance": self._settings.tolerance,
            "steps": told,
            "seen": seen,
        }
        write_json(self._folder.root / SEARCH, value)


def _of_metrics(outcome: Outcome) -> Seen:
    ratio = outcome.candidate.keep_ratio
    if outcome.metrics is None:
        return Seen(ratio, 1.0)
    told = outcome.metrics["validation"]
    f1, recall, accuracy = (
        math.nan if told[name]["value"] is None else float(told[name]["value"])
        for name in ("f1", "recall", "accuracy")
    )
    params, macs = int(outcome.metrics["params"]), int(outcome.metrics["macs"])
    return Seen(ratio, 1.0, f1, recall, accuracy, params, macs)


def _measure(seen: Seen, full: Seen) -> CandidateMeasure:
    share = seen.macs / full.macs if full.macs else math.nan
    return CandidateMeasure(
        name=f"{seen.keep_ratio:g}",
        keep_ratio=seen.keep_ratio,
        f1=seen.f1,
        recall=seen.recall,
        accuracy=seen.accuracy,
        params=seen.params,
        size_bytes=4 * seen.params,
        latency_ms=share,
        latency_ratio=1 / share if share else None,
    )
