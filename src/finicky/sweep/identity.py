"""What tells one candidate of a sweep from its neighbours, and the name that follows from it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Self

from finicky import pruning
from finicky.sweep.training_kinds import FROZEN


@dataclass(frozen=True)
class Candidate:
    """One way of making the network smaller.

    A field that is as by default leaves no trace in the name, so that a new field leaves the names,
    and with them the folders, of older runs alone. What all candidates of a run share is not here
    but in the run's conditions (`fingerprint`).

    Attributes:
        keep_ratio: In (0, 1]; 1 is the unpruned network.
        train: What is done after the cut, one of `TRAIN_KINDS`.
        depth: The last convolution that stays; empty: all do.
    """

    keep_ratio: float
    train: str = FROZEN
    depth: str = ""

    @property
    def name(self) -> str:
        """The candidate's folder: one name, one candidate."""
        name = candidate_name(self.keep_ratio, self.train)
        return f"{name}-to-{_plain(self.depth)}" if self.depth else name

    @property
    def unpruned(self) -> bool:
        return self.keep_ratio == 1 and not self.depth

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON; a field that is as by default leaves no trace."""
        return {key: value for key, value in asdict(self).items() if value != ""}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**value)


def candidate_name(keep_ratio: float, train: str = FROZEN) -> str:
    """The folder name of a candidate: ``keep-0.05``, ``keep-0.05-finetune``.

    ``keep-1`` is the unpruned network.
    """
    name = pruning.candidate_name(keep_ratio)
    return name if train == FROZEN else f"{name}-{train}"


def _plain(layer: str) -> str:
    """A layer's name as part of a folder's."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", layer)
