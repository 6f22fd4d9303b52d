"""What criteria may look at, and the one pass over photos that gathers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import nn

from finicky.importance.joint import JointMoments
from finicky.importance.pooled import PooledTiles
from finicky.importance.responses import find_taps
from finicky.importance.statistics import ChannelStatistics, ScoringBatch, collect
from finicky.progress import Progress, silent

Need = Literal["masks", "joint", "tiles", "losses"]
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
        joint: How its channels vary together on marked and unmarked pixels (need ``joint``).
        tiles: Those tiles again, for criteria that want a loss and its gradients (need ``losses``).
        seed: Of criteria that draw.
    """

    module: nn.Module
    size: int
    statistics: Mapping[str, ChannelStatistics] = field(default_factory=dict)
    pooled: PooledTiles = field(default_factory=PooledTiles)
    joint: dict[str, JointMoments] = field(default_factory=dict)
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
    joint = evidence.joint if "joint" in wanted else None
    if wanted & {"tiles", "joint"}:
        collect(
            module,
            taps,
            tiles(),
            pooled=evidence.pooled,
            joint=joint,
            statistics=False,
            progress=progress,
        )
    needs_windows = joint is not None and not all(j.tells_apart for j in joint.values())
    if joint is not None and (needs_windows or not joint):
        joint.clear()  # photos smaller than a tile, or tiles that show too little of the target
        needs_windows = True
    if "masks" in wanted or needs_windows:
        evidence.statistics = collect(
            module,
            taps,
            windows(),
            by_photo=tuple(by_photo),
            joint=joint if needs_windows else None,
            statistics="masks" in wanted,
            progress=progress,
        )
    return evidence
