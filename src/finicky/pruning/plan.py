"""What stays of a network, as JSON: enough to make the same cut again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from finicky.errors import DataError, UsageError
from finicky.pruning.allocation import Allocation, unit_counts
from finicky.pruning.channels import ChannelGroup
from finicky.pruning.groups import group_scores

Method = Literal["finicky", "original"]
METHODS: tuple[Method, ...] = ("finicky", "original")
_FORMAT, _VERSION = "finicky-plan", 1


@dataclass(frozen=True)
class PruningPlan:
    """Which channels of which convolution stay.

    Attributes:
        backbone: Name of the architecture that the plan belongs to.
        method: ``finicky`` or ``original``; ``none`` for the unpruned network.
        keep_ratio: Share of channels that was asked for, in (0, 1].
        kept: Kept output channels of every convolution, in forward order, each list ascending.
        roots: The convolutions that decide; the others follow them.
        criterion: What ranked the channels.
    """

    backbone: str
    method: str
    keep_ratio: float
    kept: dict[str, list[int]]
    roots: tuple[str, ...]
    criterion: str

    @property
    def decisions(self) -> dict[str, list[int]]:
        """Kept channels by root convolution: what `surgery.cut` takes."""
        return {name: self.kept[name] for name in self.roots}

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "backbone": self.backbone,
            "method": self.method,
            "criterion": self.criterion,
            "keep_ratio": self.keep_ratio,
            "roots": list(self.roots),
            "kept": self.kept,
        }

    @classmethod
    def from_json(cls, value: Any, origin: str) -> Self:
        """The inverse of `to_json`; anything amiss is a `DataError` that names ``origin``."""
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise DataError(f"{origin} is no pruning plan")
        if value.get("version") != _VERSION:
            raise DataError(
                f"{origin} has version {value.get('version')}, this Finicky reads {_VERSION}: "
                "update Finicky"
            )
        try:
            kept = {str(k): [int(c) for c in v] for k, v in value["kept"].items()}
            roots = tuple(str(name) for name in value["roots"])
            plan = cls(
                str(value["backbone"]),
                str(value["method"]),
                float(value["keep_ratio"]),
                kept,
                roots,
                str(value["criterion"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{origin} is damaged: {type(error).__name__} {error}") from error
        if unknown := [name for name in roots if name not in kept]:
            raise DataError(f"{origin} is damaged: root {unknown[0]} has no kept channels")
        return plan


def check_keep_ratio(keep_ratio: float) -> float:
    """The ratio itself; out of range is a `UsageError` with a guess at what was meant."""
    if not isinstance(keep_ratio, (int, float)) or not math.isfinite(keep_ratio):
        raise UsageError(f"keep ratio must be a number in (0, 1], got {keep_ratio!r}")
    if not 0 < keep_ratio <= 1:
        hint = f". Did you mean {keep_ratio / 100:g}?" if 2 <= keep_ratio <= 100 else ""
        raise UsageError(f"keep ratio must be in (0, 1], got {keep_ratio:g}{hint}")
    return float(keep_ratio)


def parse_ratios(text: str) -> tuple[float, ...]:
    """``0.05,0.1`` or ``0.05:0.5:0.05`` (from, to, step; both ends) to keep ratios."""
    try:
        if ":" in text:
            low, high, step = (float(part) for part in text.split(":"))
            if not (step > 0 and 0 < low <= high <= 1 and (high - low) / step < 1000):
                raise ValueError
            count = int((high - low) / step + 1e-9) + 1
            ratios: Sequence[float] = [round(low + i * step, 9) for i in range(count)]
        else:
            ratios = [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(
            f"keep ratios are numbers in (0, 1], as 0.05,0.1,0.2 or 0.05:0.5:0.05, got {text!r}"
        ) from error
    return tuple(check_keep_ratio(ratio) for ratio in ratios)


def candidate_name(keep_ratio: float) -> str:
    """The folder name of a keep ratio: ``keep-0.05``, and ``keep-1`` for the unpruned network."""
    return f"keep-{keep_ratio:.10f}".rstrip("0").rstrip(".")


def plan_from_scores(
    groups: Sequence[ChannelGroup],
    scores: Mapping[str, np.ndarray],
    keep_ratio: float,
    *,
    backbone: str,
    criterion: str,
    round_to: int = 1,
    allocation: Allocation | None = None,
) -> PruningPlan:
    """Keep the best channels of every group, as many as the allocation gives it.

    Coupled channels (shortcuts, depthwise filters) get the mean score of the convolutions that
    make them. Equal scores: the lower channel number stays. NaN counts as worst. Convolutions in
    groups keep whole groups, or the same positions in each.

    Args:
        groups: From `find_groups`, on the unpruned network.
        scores: One importance a channel by convolution, higher = keep.
        keep_ratio: In (0, 1].
        round_to: Channel counts become multiples of it; see `keep_count`.
        allocation: By default the same share of every group, rounded by ``round_to``.
    """
    check_keep_ratio(keep_ratio)
    allocation = allocation or Allocation(round_to=round_to)
    rankings = [_unit_ranking(group, scores) for group in groups]
    counts = unit_counts(groups, rankings, keep_ratio, allocation)
    kept: dict[str, list[int]] = {}
    for group, ranking, number in zip(groups, rankings, counts, strict=True):
        best = _best_slots(group, ranking, number)
        for producer in group.producers:
            chosen = producer.channels[np.isin(producer.slots, best)]
            previous = kept.setdefault(producer.name, [])
            kept[producer.name] = sorted({*previous, *(int(c) for c in chosen)})
    return PruningPlan(
        backbone=backbone,
        method="finicky",
        keep_ratio=float(keep_ratio),
        kept=_forward_order(groups, kept),
        roots=tuple(group.root for group in groups),
        criterion=criterion,
    )


def _unit_ranking(group: ChannelGroup, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """One score a unit; those of its slots are equal."""
    ranking = np.nan_to_num(group_scores(group, scores), nan=-np.inf, neginf=-np.inf)
    return ranking[np.unique(group.units, return_index=True)[1]]


def _best_slots(group: ChannelGroup, ranking: np.ndarray, number: int) -> np.ndarray:
    """The slots that stay: those of the ``number`` best units."""
    units = np.argsort(-ranking, kind="stable")[:number]
    return np.flatnonzero(np.isin(group.units, units))


def plan_from_kept(
    kept: Mapping[str, Sequence[int]],
    keep_ratio: float,
    *,
    backbone: str,
    method: str,
    criterion: str,
) -> PruningPlan:
    """A plan for a chain, where every convolution decides for itself."""
    lists = {name: [int(c) for c in channels] for name, channels in kept.items()}
    return PruningPlan(backbone, method, float(keep_ratio), lists, tuple(lists), criterion)


def _forward_order(
    groups: Sequence[ChannelGroup], kept: Mapping[str, list[int]]
) -> dict[str, list[int]]:
    order = {p.name: p.position for g in groups for p in g.producers}
    return {name: kept[name] for name in sorted(kept, key=lambda n: order[n])}
