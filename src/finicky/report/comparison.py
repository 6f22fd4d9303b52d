"""The chosen network against the full one, on the same test tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finicky.errors import DataError
from finicky.evaluation import Interval, bootstrap_difference
from finicky.report.facts import RunFacts
from finicky.report.wording import SPACE, Verdict, points, verdict_of

# As many as for the intervals of the table.
RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """Chosen minus full by metric, on the test split, each with its paired 95 % interval."""

    differences: Mapping[str, Interval]

    def verdict(self, metric: str) -> Verdict:
        """What the interval allows to say of the chosen network."""
        return verdict_of(self.differences[metric])

    def told(self, metric: str) -> str:
        """``difference −0.8 points, 95 % interval −2.1 to +0.6``."""
        found = self.differences[metric]
        if math.isnan(found.low):
            return f"difference {points(found.value)} points, no interval: {found.reason}"
        return (
            f"difference {points(found.value)} points, 95{SPACE}% interval "
            f"{points(found.low)} to {points(found.high)}"
        )


def compare(facts: RunFacts, *, resamples: int = RESAMPLES) -> Comparison:
    """Bootstrap the difference over whole photographs, with the same resamples for both.

    Raises:
        DataError: The two candidates' predictions are not of the same tiles.
    """
    mine, theirs = facts.chosen.predictions, facts.full.predictions
    if not (
        np.array_equal(mine.labels, theirs.labels) and np.array_equal(mine.groups, theirs.groups)
    ):
        raise DataError(
            f"the predictions of {facts.chosen.row['candidate']} and "
            f"{facts.full.row['candidate']} are not of the same tiles: run the sweep again"
        )
    test = np.flatnonzero(mine.splits == "test")
    return Comparison(
        bootstrap_difference(
            mine.labels[test],
            mine.by_seed[:, test],
            theirs.by_seed[:, test],
            mine.groups[test],
            resamples=resamples,
            seed=int(facts.conditions.get("seed", 0)),
        )
    )
