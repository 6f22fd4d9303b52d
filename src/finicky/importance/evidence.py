"""What criteria may look at, and the one pass over photos that gathers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import nn

from finicky.importance.pooled import PooledTiles
from finicky.importance.responses import find_taps
from finicky.importance.statistics import ChannelStatistics, ScoringBatch, collect
from finicky.progress import Progress, silent

Need = Literal["masks", "tiles", "losses"]
Scores = dict[str, np.ndarray]
Source = Callable[[], Iterable[ScoringBatch]]


@dataclass
class Evidence:
    """Everything that a criterion may read; what it does not need is empty.

    Attributes:
        module: The network whose channels are ranked, in eval mode.
        size: Side in px of a trial input that it takes.
        statistics: What each convolution answered to photos with masks (need ``masks``).
        pooled: What it answered to labelled tiles (need ``tiles``).
        tiles: Those tiles again, for criteria that want a loss and its gradients (need ``losses``).
        seed: Of criteria that draw.
    """

    module: nn.Module
    size: int
    statistics: Mapping[str, ChannelStatistics] = field(default_factory=dict)
    pooled: PooledTiles = field(default_factory=PooledTiles)
    tiles: Source = tuple
    seed: int = 0


def gather(
    module: nn.Module,
    size: int,
    *,
    windows: Source,
    tiles: Source,
    needs: Iterable[str],
    by_photo: Iterable[str] = (),
    layers: Iterable[str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Evidence:
    """Run the photos once, for all that a set of criteria needs; memory does not grow with them.

    Args:
        module: In eval mode.
        size: Side of a trial input in px.
        windows: Gives the parts of photos that masks are compared on.
        tiles: Gives labelled tiles.
        needs: Of the criteria; see `NamedCriterion`.
        by_photo: Kinds of `PHOTO_SCORES`.
        layers: The convolutions that matter; ``None``: all.
        seed: Of criteria that draw.
        progress: Told of each batch.
    """
    wanted = set(needs)
    taps = find_taps(module, size)
    if layers is not None:
        taps = {name: taps[name] for name in layers if name in taps}
    evidence = Evidence(module, size, tiles=tiles, seed=seed)
    if "masks" in wanted:
        evidence.statistics = collect(
            module, taps, windows(), by_photo=tuple(by_photo), progress=progress
        )
    if "tiles" in wanted:
        collect(module, taps, tiles(), pooled=evidence.pooled, statistics=False, progress=progress)
    return evidence
