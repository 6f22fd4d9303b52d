"""From a backbone and marked photos to a plan for any keep ratio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from finicky.backbones import Backbone, convolutions
from finicky.classes import ClassTable, MaskClass
from finicky.data.pairs import Pair, load_pair
from finicky.errors import DataError, UsageError, nearest_names
from finicky.importance import (
    DEFAULT_CRITERION,
    ORIGINAL_SIZE,
    Evidence,
    NamedCriterion,
    OriginalScorer,
    TileOptions,
    WindowOptions,
    criterion,
    gather,
    links,
    measure_losses,
    resize_linear_u8,
    scoring_batches,
    tile_batches,
)
from finicky.masks import target_mask
from finicky.progress import Progress, silent
from finicky.pruning import (
    METHODS,
    Allocation,
    ChannelGroup,
    PruningPlan,
    check_keep_ratio,
    find_groups,
    plan_from_kept,
    plan_from_scores,
)


class Ranking(Protocol):
    """Knows which channels a network should keep, at any ratio.

    ``scores``: importance by convolution, ``(C,)`` each, higher = keep, of the unpruned network;
    empty as long as a method that scores layer by layer has made no plan.
    """

    scores: dict[str, np.ndarray]

    def plan(self, keep_ratio: float, *, progress: Progress = silent) -> PruningPlan:
        """What stays at this ratio, in (0, 1]."""
        ...


@dataclass
class FinickyRanking:
    """Ranked once on the unpruned network; a plan costs next to nothing."""

    backbone: str
    groups: Sequence[ChannelGroup]
    scores: dict[str, np.ndarray]
    criterion: str
    allocation: Allocation = field(default_factory=Allocation)
    seen: Evidence | None = field(default=None, repr=False)

    def plan(self, keep_ratio: float, *, progress: Progress = silent) -> PruningPlan:
        """The best channels of every group, as many as its share."""
        progress("plan", 1, 1)
        return plan_from_scores(
            self.groups,
            self.scores,
            keep_ratio,
            backbone=self.backbone,
            criterion=self.criterion,
            allocation=self.allocation,
        )


@dataclass
class OriginalRanking:
    """The 2021 method: every ratio is scored anew, layer by layer."""

    backbone: str
    scorer: OriginalScorer
    scores: dict[str, np.ndarray] = field(default_factory=dict)

    def plan(self, keep_ratio: float, *, progress: Progress = silent) -> PruningPlan:
        """What the original keeps at this ratio; ``scores`` are those of the last call."""
        choice = self.scorer.choose(check_keep_ratio(keep_ratio), progress=progress)
        self.scores = choice.scores
        return plan_from_kept(
            choice.kept,
            keep_ratio,
            backbone=self.backbone,
            method="original",
            criterion="truncated IoU, mean over photos, layer by layer",
        )


def remembered(
    backbone: Backbone, scores: dict[str, np.ndarray], criterion_name: str, round_to: int
) -> FinickyRanking:
    """The ranking that `rank` made of these scores, without looking at photos again.

    What was seen of the photos is not in it. Arguments as for `rank`.
    """
    groups = find_groups(backbone.module, backbone.trace_size)
    rule = Allocation(round_to=round_to)
    return FinickyRanking(backbone.name, groups, scores, criterion_name, rule)


def check_method(method: str, backbone: Backbone) -> None:
    """Refuse, before any work, an unknown method or one that cannot cut this network."""
    if method not in METHODS:
        raise UsageError(f"no method named {method!r}. {nearest_names(method, METHODS)}")
    if method == "original":
        links(backbone.module)


def unpruned_plan(backbone: Backbone) -> PruningPlan:
    """The plan that keeps everything: keep ratio 1."""
    layers = convolutions(backbone.module, backbone.trace_size)
    kept = {name: list(range(conv.out_channels)) for name, conv in layers.items()}
    return PruningPlan(backbone.name, "none", 1.0, kept, (), "none")


def rank(
    backbone: Backbone,
    pairs: Sequence[Pair],
    *,
    classes: ClassTable,
    targets: Sequence[MaskClass],
    method: str = "finicky",
    criterion_name: str = DEFAULT_CRITERION,
    round_to: int = 1,
    allocation: Allocation | None = None,
    windows: WindowOptions = WindowOptions(),
    tiles: TileOptions = TileOptions(),
    seed: int = 0,
    progress: Progress = silent,
) -> Ranking:
    """Score every filter of a backbone against the masks.

    Args:
        backbone: Unpruned.
        pairs: Photos with masks, all of them readable (see `usable_pairs`).
        classes: What the masks' numbers mean.
        targets: The classes that count as evidence.
        method: ``finicky`` or ``original``.
        criterion_name: For ``finicky``, one of `CRITERIA`.
        round_to: For ``finicky``, channel counts become multiples of it; see `keep_count`.
        allocation: For ``finicky``, how channels are shared out; it has its own rounding, and
            ``round_to`` is not read then.
        windows: For ``finicky``, which parts of the photos are compared with masks.
        tiles: For criteria that compare tiles with and without the target.
        seed: Of criteria that draw.
        progress: Told of each batch.

    Raises:
        UsageError: Unknown method or criterion.
        UnsupportedModelError: The method cannot cut this network.
    """
    check_method(method, backbone)
    if not pairs:
        raise DataError("no photo with a mask to score filters on")
    if method == "original":
        return _rank_original(backbone, pairs, classes, targets)
    chosen = criterion(criterion_name)
    size = backbone.trace_size
    groups = find_groups(backbone.module, size)
    evidence = look(
        backbone,
        pairs,
        classes=classes,
        targets=targets,
        criteria=(chosen,),
        windows=windows,
        tiles=tiles,
        seed=seed,
        progress=progress,
    )
    scores = chosen.score(evidence)
    rule = allocation or Allocation(round_to=round_to)
    if rule.kind == "sensitivity":
        batches = tile_batches(
            pairs,
            classes=classes,
            targets=targets,
            preprocessing=backbone.preprocessing,
            options=replace(tiles, size=max(tiles.size, backbone.min_size), per_photo=1),
        )
        rule = replace(rule, losses=measure_losses(backbone.module, groups, scores, batches))
    return FinickyRanking(backbone.name, groups, scores, criterion_name, rule, evidence)


def look(
    backbone: Backbone,
    pairs: Sequence[Pair],
    *,
    classes: ClassTable,
    targets: Sequence[MaskClass],
    criteria: Iterable[NamedCriterion],
    windows: WindowOptions = WindowOptions(),
    tiles: TileOptions = TileOptions(),
    seed: int = 0,
    progress: Progress = silent,
) -> Evidence:
    """Run the photos once for all that several criteria need; arguments as for `rank`.

    Raises:
        DataError: A criterion needs tiles of both kinds and the photos do not give them.
    """
    wanted = list(criteria)
    about = {"classes": classes, "targets": targets, "preprocessing": backbone.preprocessing}
    tiles = replace(tiles, size=max(tiles.size, backbone.min_size))
    evidence = gather(
        backbone.module,
        backbone.trace_size,
        windows=lambda: scoring_batches(pairs, options=windows, **about),  # type: ignore[arg-type]
        tiles=lambda: tile_batches(pairs, options=tiles, **about),  # type: ignore[arg-type]
        needs={need for one in wanted for need in one.needs},
        by_photo={kind for one in wanted for kind in one.by_photo},
        seed=seed,
        progress=progress,
    )
    needed = any("tiles" in one.needs for one in wanted)
    if needed and len(np.unique(evidence.pooled.labels)) < 2:
        raise DataError(
            f"the criterion compares tiles of {tiles.size} px with and without the target, and "
            "the photos give only one kind: label photos that show clean surface too, or choose "
            "--criterion coverage"
        )
    return evidence


def _rank_original(
    backbone: Backbone,
    pairs: Sequence[Pair],
    classes: ClassTable,
    targets: Sequence[MaskClass],
) -> OriginalRanking:
    photos = np.empty((len(pairs), ORIGINAL_SIZE, ORIGINAL_SIZE, 3), dtype=np.uint8)
    masks = []
    for number, pair in enumerate(pairs):
        photo, ids = load_pair(pair, classes)
        photos[number] = resize_linear_u8(photo, width=ORIGINAL_SIZE, height=ORIGINAL_SIZE)
        masks.append(target_mask(ids, targets))
    return OriginalRanking(backbone.name, OriginalScorer(backbone.module, photos, masks))
