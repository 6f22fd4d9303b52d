"""Criteria that people can name: evidence in, one number a channel out, higher = keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from finicky.errors import UsageError, nearest_names
from finicky.importance import overlap, peers
from finicky.importance.by_photo import TOP_SHARE
from finicky.importance.coverage import coverage
from finicky.importance.evidence import Evidence, Scores
from finicky.importance.labels import class_evidence, class_t
from finicky.importance.statistics import ChannelStatistics


@dataclass(frozen=True)
class NamedCriterion:
    """A criterion with what help and evidence pages say of it.

    Attributes:
        score: From evidence to ``(C,)`` scores by convolution; NaN = no evidence.
        summary: One line.
        needs: What it reads: ``masks``, ``joint`` (how channels vary together, by the masks),
            ``tiles`` (labels only), ``losses`` (gradients).
        by_photo: Kinds of `PHOTO_SCORES` that it reads.
    """

    score: Callable[[Evidence], Scores]
    summary: str
    needs: frozenset[str] = frozenset()
    by_photo: tuple[str, ...] = ()

    @property
    def uses_masks(self) -> bool:
        """Whether it is more than a peer: it looks at what a person marked."""
        return bool(self.needs & {"masks", "joint"})


def _on_masks(score: Callable[[ChannelStatistics], np.ndarray]) -> Callable[[Evidence], Scores]:
    return lambda evidence: {name: score(s) for name, s in evidence.statistics.items()}


def _on_tiles(
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> Callable[[Evidence], Scores]:
    def scores(evidence: Evidence) -> Scores:
        pooled = evidence.pooled
        return {n: score(pooled.means(n), pooled.peaks(n), pooled.labels) for n in pooled.layers}

    return scores


def mean_rank(*parts: Callable[[Evidence], Scores]) -> Callable[[Evidence], Scores]:
    """The mean of the ranks that several criteria give within a layer, in (0, 1].

    Ranks, because an overlap and a separation have no common scale. A channel without evidence
    (NaN) ranks last.
    """

    def scores(evidence: Evidence) -> Scores:
        found = [part(evidence) for part in parts]
        names = [name for name in found[0] if all(name in one for one in found)]
        return {name: np.mean([_ranks(one[name]) for one in found], axis=0) for name in names}

    return scores


def _ranks(scores: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    if np.isnan(scores).all():
        return np.full(len(scores), np.nan)
    return np.asarray(rankdata(np.nan_to_num(scores, nan=-np.inf)) / len(scores))


_MASKS, _TILES, _BOTH = frozenset({"masks"}), frozenset({"tiles"}), frozenset({"masks", "tiles"})
_quantile, _correlation = _on_masks(overlap.quantile_iou), _on_masks(overlap.mask_correlation)
_evidence, _rank = _on_tiles(class_evidence), _on_masks(overlap.rank_separation)

CRITERIA: Mapping[str, NamedCriterion] = {
    "coverage": NamedCriterion(
        coverage,
        "chosen in turn: each tells most of what goes with the masks, no two the same",
        frozenset({"joint"}),
    ),
    "quantile-iou": NamedCriterion(
        _quantile, f"IoU of the strongest {TOP_SHARE:.1%} of responses with the masks", _MASKS
    ),
    "photo-iou": NamedCriterion(
        _on_masks(overlap.photo_mean("quantile-iou")),
        "the same photo by photo, mean over photos",
        _MASKS,
        ("quantile-iou",),
    ),
    "best-iou": NamedCriterion(
        _on_masks(overlap.best_iou), "IoU at each filter's own best threshold", _MASKS
    ),
    "truncated-iou": NamedCriterion(
        _on_masks(overlap.photo_mean("truncated-iou")),
        "the overlap of the 2021 method, ranked once on the unpruned network",
        _MASKS,
        ("truncated-iou",),
    ),
    "rank": NamedCriterion(
        _rank, "how surely marked pixels answer more strongly than unmarked ones", _MASKS
    ),
    "two-sided-rank": NamedCriterion(
        _on_masks(overlap.two_sided_rank), "the same, or more weakly: silence counts too", _MASKS
    ),
    "mask-correlation": NamedCriterion(
        _correlation, "size of the correlation of response and mask, over all pixels", _MASKS
    ),
    "signed-mask-correlation": NamedCriterion(
        _on_masks(overlap.signed_mask_correlation), "the correlation with its sign", _MASKS
    ),
    "mask+class": NamedCriterion(
        mean_rank(_correlation, _evidence),
        "mean of the ranks by mask-correlation and class-evidence",
        _BOTH,
    ),
    "iou+class": NamedCriterion(
        mean_rank(_quantile, _evidence),
        "mean of the ranks by quantile-iou and class-evidence",
        _BOTH,
    ),
    "mask+iou+class": NamedCriterion(
        mean_rank(_correlation, _quantile, _evidence),
        "mean of the ranks by mask-correlation, quantile-iou and class-evidence",
        _BOTH,
    ),
    "class-evidence": NamedCriterion(
        _evidence, "how surely its mean or maximum tells tiles with the target; no masks", _TILES
    ),
    "class-t": NamedCriterion(
        _on_tiles(class_t), "the same by Welch's t statistic; no masks", _TILES
    ),
    "mean-activation": NamedCriterion(
        _on_tiles(peers.mean_activation), "mean response on tiles; no masks", _TILES
    ),
    "random": NamedCriterion(peers.random, "drawn by --seed; no masks"),
    "l1": NamedCriterion(peers.magnitude(1), "L1 norm of the filter's weights; no masks"),
    "l2": NamedCriterion(peers.magnitude(2), "L2 norm of the filter's weights; no masks"),
    "group-l2": NamedCriterion(
        peers.group_magnitude, "L2 norm over all weights that go with a channel; no masks"
    ),
    "fpgm": NamedCriterion(
        peers.geometric_median, "distance from the layer's other filters; no masks"
    ),
    "bn-scale": NamedCriterion(
        peers.bn_scale, "scale of the batch normalisation that follows; no masks"
    ),
    "taylor": NamedCriterion(
        peers.taylor, "change of the loss without the channel, to first order; no masks", _TILES
    ),
    "hessian": NamedCriterion(
        peers.hessian, "change of the loss by its weights' curvature; no masks", _TILES
    ),
}
DEFAULT_CRITERION = "coverage"
PEERS = tuple(name for name, one in CRITERIA.items() if not one.uses_masks)


def criterion(name: str) -> NamedCriterion:
    """The criterion of that name; an unknown one is a `UsageError` that lists the nearest."""
    if name not in CRITERIA:
        raise UsageError(f"no criterion named {name!r}. {nearest_names(name, CRITERIA)}")
    return CRITERIA[name]
