"""Which networks are trained after the cut where nobody said which.

A frozen candidate costs seconds, a trained one minutes, so few are trained, and small ones. With
few labelled photos, trained networks of a tenth of the channels were ahead of all frozen ones
(``docs/evidence/training.md``), now fine-tuned ones, now those from scratch. So both kinds are
trained at the smaller of two keep ratios, and the better of them at the larger.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence

from finicky.sweep.executors import Outcome
from finicky.sweep.identity import Candidate
from finicky.sweep.training_kinds import FINETUNE, SCRATCH, TRAIN_KINDS

# As near to these as keep ratios may be tried.
SMALL, LARGER = 0.1, 0.2

Each = Callable[[Sequence[Candidate]], Iterable[Outcome]]


def train_few(ratios: Sequence[float], each: Each) -> Generator[Outcome, None, list[Outcome]]:
    """Train both kinds at one keep ratio, the better one at another; outcomes as they come.

    Args:
        ratios: Keep ratios that may be tried; 1, the unpruned network, is passed over.
        each: Makes candidates.
    """
    few = few_ratios(ratios)
    if not few:
        return []
    found = yield from _passed_on(each([Candidate(few[0], FINETUNE), Candidate(few[0], SCRATCH)]))
    if len(few) > 1:
        better = max(found, key=_quality).candidate.train
        found += yield from _passed_on(each([Candidate(few[1], better)]))
    return found


def _passed_on(outcomes: Iterable[Outcome]) -> Generator[Outcome, None, list[Outcome]]:
    """The outcomes, by kind, whichever came first."""
    found = []
    for outcome in outcomes:
        found.append(outcome)
        yield outcome
    return sorted(found, key=lambda one: TRAIN_KINDS.index(one.candidate.train))


def count_few(ratios: Sequence[float]) -> int:
    """How many candidates `train_few` trains: 3, 2 where there is one ratio only, or 0."""
    few = few_ratios(ratios)
    return len(few) + 1 if few else 0


def few_ratios(ratios: Sequence[float]) -> list[float]:
    """The ratios next to `SMALL` and `LARGER`, as far as these are two."""
    cut = [ratio for ratio in ratios if ratio < 1]
    if not cut:
        return []
    near = [min(cut, key=lambda r: (abs(r - wanted), r)) for wanted in (SMALL, LARGER)]
    return list(dict.fromkeys(near))


def _quality(outcome: Outcome) -> float:
    """F1 on validation, which decides between networks of one size and speed."""
    told = None if outcome.metrics is None else outcome.metrics["validation"]["f1"]["value"]
    return -1.0 if told is None else float(told)
