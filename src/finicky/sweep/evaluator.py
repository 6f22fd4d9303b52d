"""Candidates to outcomes: what an earlier start finished is read, the rest is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from finicky.errors import DataError
from finicky.pruning import PruningPlan
from finicky.sweep.events import Event, Listener, unheard
from finicky.sweep.executors import Executor, Outcome, Task
from finicky.sweep.folder import RunFolder
from finicky.sweep.identity import Candidate
from finicky.sweep.training_kinds import FROZEN


class NoPlanError(DataError):
    """Nobody can say what stays under this candidate; of others it can be said."""


Plans = Callable[[Candidate], PruningPlan]
Leader = Callable[[Sequence[dict[str, Any]]], tuple[str, float] | None]


class Evaluator:
    """Makes whichever candidates it is asked for, each once, and tells of every one.

    A search asks again and again; a sweep over all asks once.

    Args:
        folder: Of the run; this process owns it.
        executor: Makes what is not there yet.
        plans: What stays under a candidate; asked only for those that are made. One that it
            raises `NoPlanError` for has failed, and the others go on.
        leader: Name and score of the best of some metrics.
        expected: How many there will be in all, where it is asked again and again; ``None``: as
            many as it is asked for.
        trained: How many of these are trained.
        sure: Whether there will be no more and no fewer; a search asks for what it likes.
        listen: Told of every candidate.
    """

    def __init__(
        self,
        folder: RunFolder,
        executor: Executor,
        plans: Plans,
        *,
        leader: Leader = lambda _: None,
        expected: int | None = None,
        trained: int = 0,
        sure: bool = True,
        listen: Listener = unheard,
    ) -> None:
        self._folder, self._executor, self._plans = folder, executor, plans
        self._leader, self._listen = leader, listen
        self._expected, self._trained, self._sure = expected or 0, trained, sure
        self._outcomes: dict[str, Outcome] = {}
        self._pending: dict[str, Candidate] = {}
        self._clock = _Clock()

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """All so far, by name, in the order in which they were asked for."""
        return dict(self._outcomes)

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Outcomes in the order asked for, failed ones included; raises as `each` does."""
        for _ in self.each(candidates):
            pass
        return [self._outcomes[c.name] for c in candidates]

    def each(self, candidates: Sequence[Candidate]) -> Iterator[Outcome]:
        """Outcomes as they come, those that were known first; `outcomes` has them in order.

        Raises:
            DataError: The unpruned network, which all others are compared with, failed.
            StorageError: A file could not be written; what was finished is kept.
        """
        fresh = [c for c in candidates if c.name not in self._outcomes]
        order = {name: i for i, name in enumerate([*self._outcomes, *(c.name for c in fresh)], 1)}
        missing = []
        self._pending = {candidate.name: candidate for candidate in fresh}
        self._trained -= sum(candidate.train != FROZEN for candidate in fresh)
        for candidate in fresh:
            known = self._known(candidate)
            if known is None:
                missing.append(candidate)
            else:
                self._note(known, "failed" if known.reason else "kept")
                yield known
        self._clock.start()
        refused: list[Outcome] = []
        tasks = self._tasks(missing, order, refused)
        if missing:
            cost = sum(map(_cost, missing)) / len(missing)
            for outcome in self._executor.run(tasks, len(missing), cost=cost):
                self._settle(outcome)
                yield outcome
        yield from refused
        self._outcomes = dict(sorted(self._outcomes.items(), key=lambda item: order[item[0]]))

    def _known(self, candidate: Candidate) -> Outcome | None:
        changed = self._folder.changed_in(candidate.name)
        if changed == []:
            return Outcome(candidate, self._folder.metrics(candidate.name))
        for file in changed or ():
            self._listen(Event("damaged", {"file": file}))
        reason = self._folder.failed(candidate.name)
        return None if reason is None else Outcome(candidate, None, reason)

    def _tasks(
        self, missing: Sequence[Candidate], order: Mapping[str, int], refused: list[Outcome]
    ) -> Iterator[Task]:
        for candidate in missing:
            self._folder.discard(candidate.name)
            try:
                plan = self._plans(candidate)
            except NoPlanError as error:
                refused.append(Outcome(candidate, None, str(error)))
                self._settle(refused[-1])
                continue
            here = self._folder.candidate(candidate.name)
            count = max(len(order), self._expected) if self._sure else len(order)
            title = f"candidate {order[candidate.name]} of {count} ({candidate.name})"
            yield Task(candidate, plan, here, title)

    def _settle(self, outcome: Outcome) -> None:
        name = outcome.candidate.name
        if outcome.metrics is None:
            if outcome.candidate.unpruned:
                raise DataError(f"the unpruned network cannot be used: {outcome.reason}")
            self._folder.fail(name, outcome.reason, final=outcome.final)
            self._note(outcome, "failed")
        else:
            self._folder.finish(name, outcome.metrics)
            self._note(outcome, "finished")

    def _note(self, outcome: Outcome, status: str) -> None:
        self._outcomes[outcome.candidate.name] = outcome
        self._pending.pop(outcome.candidate.name, None)
        if status != "kept" and outcome.seconds > 0:
            self._clock.tick(_work(outcome.candidate))
        asked = len(self._outcomes) + len(self._pending)
        total = max(asked, self._expected)
        trained = min(max(self._trained, 0), total - asked)
        left = sum(map(_work, self._pending.values()))
        left += (total - asked) * _USUAL_WORK + trained * _TRAINING_WORK
        facts: dict[str, Any] = {
            "candidate": outcome.candidate.name,
            "status": status,
            "done": len(self._outcomes),
            "total": total,
            "sure": self._sure,
            "seconds": round(outcome.seconds, 3),
            "seconds_left": self._clock.left(left),
        }
        if outcome.metrics is None:
            facts["reason"] = outcome.reason
        else:
            validation = outcome.metrics["validation"]
            for metric in ("balanced_accuracy", "f1"):
                facts[f"val_{metric}"] = validation[metric]["value"]
            facts["params"] = outcome.metrics["params"]
        best = self._leader([o.metrics for o in self._outcomes.values() if o.metrics is not None])
        facts["best"], facts["best_score"] = best if best is not None else (None, None)
        self._listen(Event("candidate", facts))


# Of a candidate that a search asks for: about a sixth of the channels.
_USUAL_WORK = 0.25
_TRAINING_WORK = 2.0


def _work(candidate: Candidate) -> float:
    """What a candidate costs next to the unpruned network, roughly.

    Its features are made twice, once a repair, and head and export cost the same for all.
    Measured for VGG16: operations fall with the power 1.5 of the keep ratio. Training costs more.
    """
    if candidate.unpruned:
        return 1.0
    return 0.1 + 2 * candidate.keep_ratio**1.5 + _TRAINING_WORK * (candidate.train != FROZEN)


def _cost(candidate: Candidate) -> float:
    """What a candidate costs next to a frozen one, for the choice of workers."""
    return 1.0 if candidate.train == FROZEN else 10.0


class _Clock:
    """How long the rest will take, going by what was made since the start."""

    def __init__(self) -> None:
        self._since, self._made = time.monotonic(), 0.0

    def start(self) -> None:
        if not self._made:
            self._since = time.monotonic()

    def tick(self, work: float) -> None:
        self._made += work

    def left(self, work: float) -> float | None:
        """Seconds for so much more work; ``None`` as long as nothing was made."""
        if not self._made:
            return None
        return round((time.monotonic() - self._since) / self._made * work, 1)
