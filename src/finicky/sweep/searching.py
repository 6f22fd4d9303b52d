"""A search at work: glances and evaluations of real networks, remembered in the run folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from finicky.errors import DataError, UnsupportedModelError
from finicky.evaluation import score_predictions
from finicky.files import write_json
from finicky.progress import Progress, silent, titled
from finicky.pruning import Cutter, PruningPlan, count
from finicky.ranking import TRACE_SIZE
from finicky.selection import CandidateMeasure, choose
from finicky.spool import Spool, forget
from finicky.sweep.evaluator import Evaluator, NoPlanError, Plans
from finicky.sweep.executors import Outcome, reason_of
from finicky.sweep.folder import SEARCH, RunFolder
from finicky.sweep.identity import Candidate
from finicky.sweep.search import Look, Search, SearchSettings, Step
from finicky.sweep.settings import DecisionSettings
from finicky.sweep.workbench import THREADS, Workbench, threads
from finicky.training import extract, repair_by, train_head

GLANCED = "glanced"


@dataclass(frozen=True)
class Seen:
    """What a look at one network told, all on validation; NaN where undefined."""

    keep_ratio: float
    share: float
    f1: float
    recall: float
    accuracy: float
    params: int
    macs: int


class Searcher:
    """Carries out the steps of a `Search`.

    Args:
        settings: How thoroughly is searched.
        bench: Backbone, tiles and settings of the run.
        evaluator: Makes full candidates.
        plans: What stays under a candidate.
        folder: Of the run; glances are remembered in its journal.
        decision: How the best is chosen.
    """

    def __init__(
        self,
        settings: SearchSettings,
        bench: Workbench,
        evaluator: Evaluator,
        plans: Plans,
        folder: RunFolder,
        decision: DecisionSettings,
    ) -> None:
        self._settings, self._bench, self._evaluator = settings, bench, evaluator
        self._plans, self._folder, self._decision = plans, folder, decision
        self._seen: dict[tuple[float, float], Seen] = {}

    def run(self, *, progress: Progress = silent) -> Iterator[Outcome]:
        """Search to the end; outcomes of what is evaluated in full, as they come.

        What an earlier start of the run looked at is not looked at again. The trail is written to
        ``search.json``.
        """
        self._recall()
        yield from self._evaluate((1.0,))
        settings, macs = self._distinct()
        search = Search(settings, macs)
        while not (step := search.step(self._looks())).last:
            if step.share == 1:
                yield from self._evaluate(step.ratios)
            else:
                for number, ratio in enumerate(step.ratios, start=1):
                    report = titled(progress, f"glance {number} of {len(step.ratios)}")
                    self._glance(ratio, step.share, report)
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

    def _glance(self, ratio: float, share: float, report: Progress) -> None:
        """One look; what cannot be looked at has no score and is passed over."""
        try:
            plan = self._plans(Candidate(ratio))
        except NoPlanError as error:
            self._note(_nothing(ratio, share), str(error))
            return
        try:
            seen = self._look(plan, share, report)
        except Exception as error:
            reason, final = reason_of(error, self._folder.root)
            # What may go well another time is tried again by the next start.
            self._note(_nothing(ratio, share), reason, keep=final)
        else:
            self._note(seen)

    def _look(self, plan: PruningPlan, share: float, report: Progress) -> Seen:
        """Cut, repair, train a head on some photographs; validation alone is asked."""
        bench, repair = self._bench, self._bench.settings.repairs[0]
        with threads(THREADS), Spool() as spool:
            smaller = self._cutter.cut(plan.decisions)
            if repair != "none":
                repair_by(repair, bench.reconstructor, smaller.module, plan.kept)
            train, held_out = _some(bench, share), bench.data.rows("validation")
            tiles = _Rows(bench.data.tiles, np.concatenate([train, held_out]))
            kind = bench.settings.features
            rows = extract(smaller, tiles, spool, kind=kind, progress=report)  # type: ignore[arg-type]
            labels, groups = bench.data.labels, bench.data.groups
            head = train_head(
                rows[: len(train)], labels[train], groups[train], seed=bench.settings.seed
            )
            chances = head.probabilities(rows[len(train) :])
        quality = score_predictions(labels[held_out], chances)
        counts = count(smaller.module, bench.settings.tile)
        f1, recall, accuracy = (float(v) for v in (quality.f1, quality.recall, quality.accuracy))
        ratio = plan.keep_ratio
        return Seen(ratio, share, f1, recall, accuracy, counts.params, counts.macs)

    def _note(self, seen: Seen, reason: str = "", *, keep: bool = True) -> None:
        plain = {k: None if v != v else v for k, v in asdict(seen).items()}
        if reason:
            plain["reason"] = reason
        if keep:
            self._folder.journal.append(GLANCED, **plain)
        self._seen[seen.keep_ratio, seen.share] = seen

    def _recall(self) -> None:
        """Glances of earlier starts; a record that is not ours is made again."""
        for record in self._folder.journal.read()[0]:
            if record["event"] == GLANCED:
                values: dict[str, Any] = {
                    name: math.nan if record.get(name) is None else record[name]
                    for name in Seen.__dataclass_fields__
                }
                self._seen[values["keep_ratio"], values["share"]] = Seen(**values)

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
                    macs[ratio] = self._cutter.counts(plan.decisions, tile).macs
                    kept.append(plan.kept)
            except (NoPlanError, UnsupportedModelError) as error:
                reason = str(error)
        if not macs:
            raise DataError(f"no keep ratio of the search can be cut: {reason}")
        return replace(self._settings, grid=tuple(macs)), macs

    @cached_property
    def _cutter(self) -> Cutter:
        backbone = self._bench.backbone
        return Cutter(backbone, max(TRACE_SIZE, backbone.min_size))

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
        seen = [
            {k: None if v != v else v for k, v in asdict(one).items()}
            for _, one in sorted(self._seen.items(), reverse=True)
        ]
        value = {
            "format": "finicky-search",
            "version": 1,
            "tolerance": self._settings.tolerance,
            "steps": told,
            "seen": seen,
        }
        write_json(self._folder.root / SEARCH, value)


class _Rows:
    """Some rows of an array that may lie on disk; only what is asked for is read."""

    def __init__(self, tiles: np.ndarray, rows: np.ndarray) -> None:
        self._tiles, self._chosen = tiles, rows

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, part: slice) -> np.ndarray:
        found = np.asarray(self._tiles[self._chosen[part]])
        forget(self._tiles)
        return found


def _some(bench: Workbench, share: float) -> np.ndarray:
    """Training tiles of a share of the photographs, more until both classes have two of them.

    Photographs come in one random order, so that a larger share holds a smaller one.
    """
    rows = bench.data.rows("train")
    labels, groups = bench.data.labels[rows], bench.data.groups[rows]
    names = np.random.default_rng(bench.settings.seed).permutation(np.unique(groups))
    for number in range(max(2, math.ceil(share * len(names))), len(names) + 1):
        part = np.isin(groups, names[:number])
        held = [len(np.unique(groups[part & (labels == kind)])) for kind in (0, 1)]
        if min(held) >= 2:
            return np.asarray(rows[part])
    return rows


def _nothing(ratio: float, share: float) -> Seen:
    """A look that failed."""
    return Seen(ratio, share, math.nan, math.nan, math.nan, 0, 0)


def _of_metrics(outcome: Outcome) -> Seen:
    ratio = outcome.candidate.keep_ratio
    if outcome.metrics is None:
        return _nothing(ratio, 1.0)
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
