"""From arrays of photos and masks to a pruned network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from finicky.backbones import Backbone
from finicky.errors import DataError, UsageError
from finicky.estimator.arrays import Photos, marked_rows
from finicky.importance import (
    ORIGINAL_SIZE,
    OriginalScorer,
    ScoringBatch,
    criterion,
    gather,
    resize_linear_u8,
)
from finicky.pruning import Allocation, Cutter, PruningPlan, find_groups
from finicky.ranking import (
    FinickyRanking,
    OriginalRanking,
    Ranking,
    check_method,
    unpruned_plan,
)
from finicky.training import ReconstructionSettings, Reconstructor

_BATCH = 16
Masks = Sequence[np.ndarray | None]
Pruned = tuple[Backbone, PruningPlan, dict[str, np.ndarray]]


def prune_photos(
    full: Backbone,
    photos: Photos,
    labels: np.ndarray,
    groups: np.ndarray,
    masks: Masks,
    *,
    keep_ratio: float,
    method: str,
    criterion_name: str,
    round_to: int,
    seed: int,
) -> Pruned:
    """Rank, plan, cut; returns the smaller network, its plan and the importance of each channel.

    Photos without a mask show nothing where their label is 0, and are left out where it is 1.
    """
    check_method(method, full)
    if keep_ratio == 1:
        return full, unpruned_plan(full), {}
    size = full.trace_size
    ranking: Ranking
    if method == "original":
        ranking = OriginalRanking(full.name, _original(full, photos, masks))
        groups_found = None
    else:
        groups_found = find_groups(full.module, size)
        scores = _scores(full, photos, labels, groups, masks, criterion_name, seed)
        rule = Allocation(round_to=round_to)
        ranking = FinickyRanking(full.name, groups_found, scores, criterion_name, rule)
    plan = ranking.plan(keep_ratio)
    smaller = Cutter(full, size, groups=groups_found).cut(plan.decisions)
    return smaller, plan, ranking.scores


def repair_network(
    full: Backbone, smaller: Backbone, plan: PruningPlan, photos: Photos, *, seed: int
) -> None:
    """Fit the cut layers to the unpruned responses on some of the photos; changes ``smaller``."""
    options = ReconstructionSettings(seed=seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(photos))[: options.tiles])
    inputs = full.preprocessing(torch.from_numpy(photos[chosen]))
    Reconstructor(full, inputs, options).apply(smaller.module, plan.kept)


def _scores(
    full: Backbone,
    photos: Photos,
    labels: np.ndarray,
    groups: np.ndarray,
    masks: Masks,
    name: str,
    seed: int,
) -> dict[str, np.ndarray]:
    chosen = criterion(name)
    if chosen.uses_masks and not len(marked_rows(masks)):
        raise UsageError(
            f"criterion {name} compares filters with masks, and fit got none that shows the "
            "target: pass masks=, or keep_ratio=1, or a criterion without masks such as l2"
        )
    known = [
        np.zeros((photos.size, photos.size), dtype=np.float32) if m is None and not label else m
        for m, label in zip(masks, labels, strict=True)
    ]
    seen = np.array([i for i, m in enumerate(known) if m is not None], dtype=np.int64)
    if len(np.unique(labels)) < 2 and chosen.needs & {"tiles", "losses"}:
        raise DataError(f"criterion {name} compares photos of two classes, got one")

    def windows() -> Iterator[ScoringBatch]:
        for rows in np.split(seen, range(_BATCH, len(seen), _BATCH)):
            marked = np.stack([m for m in (known[i] for i in rows) if m is not None])
            yield ScoringBatch(_inputs(full, photos, rows), torch.from_numpy(marked))

    def tiles() -> Iterator[ScoringBatch]:
        every = np.arange(len(photos))
        for rows in np.split(every, range(_BATCH, len(every), _BATCH)):
            blank = torch.zeros(len(rows), photos.size, photos.size)
            known_px = torch.ones_like(blank)
            shown = [known[i] for i in rows]
            for place, mask in enumerate(shown):
                if mask is None:
                    known_px[place] = 0
                else:
                    blank[place] = torch.from_numpy(mask)
            yield ScoringBatch(
                _inputs(full, photos, rows),
                blank,
                known_px,
                labels=tuple(int(label) for label in labels[rows]),
                groups=tuple(str(group) for group in groups[rows]),
            )

    evidence = gather(
        full.module,
        full.trace_size,
        windows=windows,
        tiles=tiles,
        needs=chosen.needs,
        by_photo=chosen.by_photo,
        seed=seed,
    )
    return chosen.score(evidence)


def _inputs(full: Backbone, photos: Photos, rows: np.ndarray) -> torch.Tensor:
    return full.preprocessing(torch.from_numpy(photos[rows]))


def _original(full: Backbone, photos: Photos, masks: Masks) -> OriginalScorer:
    rows = marked_rows(masks)
    if not len(rows):
        raise UsageError("method original needs masks that show the target: pass masks=")
    side = ORIGINAL_SIZE
    shown = np.stack([resize_linear_u8(p, width=side, height=side) for p in photos[rows]])
    marked = [mask > 0.5 for mask in (masks[i] for i in rows) if mask is not None]
    return OriginalScorer(full.module, shown, marked)
