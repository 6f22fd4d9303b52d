"""Criteria that compare a channel's responses with the masks, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from finicky.errors import UsageError
from finicky.importance.by_photo import TOP_SHARE
from finicky.importance.statistics import ChannelStatistics


def quantile_iou(statistics: ChannelStatistics, *, top_share: float = TOP_SHARE) -> np.ndarray:
    """Overlap of each channel's strongest responses with the masks, pooled over all photos.

    The threshold is one a channel, over the whole data set: the response that ``top_share`` of all
    pixels exceed. ``IoU = Σ both / (Σ strong + Σ marked − Σ both)``.

    Args:
        statistics: Of C channels.
        top_share: In (0, 1).

    Returns:
        ``(C,)`` float64 in [0, 1]; 0 for a channel that answers too seldom to have such a
        threshold above zero; NaN where the masks marked nothing.

    After Bau et al. 2017, "Network Dissection", arXiv:1704.05796, section 2.2. Unlike theirs, the
    mask is brought to the map's size, by area, and within the threshold's histogram bin both sums
    are shared out evenly.
    """
    strong, both = _above(statistics, top_share)
    union = strong + statistics.mask_pixels - both
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = both / union
    return np.where(statistics.mask_pixels > 0, iou, np.nan)


def best_iou(statistics: ChannelStatistics) -> np.ndarray:
    """Overlap at each channel's own best threshold: the ``(C,)`` maximum of IoU over thresholds.

    What a user of one filter as a detector could reach (an upper bound of `quantile_iou`).
    """
    strong = np.cumsum(statistics.total[:, :0:-1], axis=1)
    both = np.cumsum(statistics.inside[:, :0:-1], axis=1)
    marked = statistics.mask_pixels[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = both / (strong + marked - both)
    return np.where(marked[:, 0] > 0, np.nan_to_num(iou).max(1), np.nan)


def rank_separation(statistics: ChannelStatistics) -> np.ndarray:
    """Probability that a marked pixel answers more strongly than an unmarked one, ``(C,)``.

    The area under the ROC curve of a pixel classifier made of this channel alone (Hanley and
    McNeil 1982): 0.5 is no evidence, 1 is perfect. Ties count half. NaN where either kind of pixel
    is missing.
    """
    inside = statistics.inside
    outside = statistics.total - inside
    below = np.cumsum(outside, axis=1) - outside
    wins = (inside * (below + outside / 2)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / (inside.sum(1) * outside.sum(1))


def two_sided_rank(statistics: ChannelStatistics) -> np.ndarray:
    """As `rank_separation`, but a filter that surely falls silent on the target counts as much.

    ``|AUROC − 0.5|``, ``(C,)`` in [0, 0.5].
    """
    return np.abs(rank_separation(statistics) - 0.5)


def signed_mask_correlation(statistics: ChannelStatistics) -> np.ndarray:
    """Pearson's correlation of response and mask over all pixels of all photos, ``(C,)``.

    In [-1, 1]; 0 for a channel that never varies; NaN where the masks marked nothing, or all.
    """
    m = statistics.moments
    with np.errstate(invalid="ignore", divide="ignore"):
        n = m.pixels
        covariance = m.am - np.asarray(m.a) * m.m / n
        spread_a = np.maximum(m.aa - np.asarray(m.a) ** 2 / n, 0)
        spread_m = max(m.mm - m.m**2 / n, 0)
        found = covariance / np.sqrt(spread_a * spread_m)
    if not m.m or spread_m <= 1e-12 * m.pixels:
        return np.full(np.shape(m.a), np.nan)
    return np.where(spread_a > 1e-12 * np.maximum(m.aa, 1e-30), found, 0.0)


def mask_correlation(statistics: ChannelStatistics) -> np.ndarray:
    """`signed_mask_correlation` without its sign: silence on the target is evidence too."""
    return np.abs(signed_mask_correlation(statistics))


def mean_activation(statistics: ChannelStatistics) -> np.ndarray:
    """Mean size of a channel's response over all pixels, ``(C,)``; no masks are looked at.

    After Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient
    Inference", arXiv:1611.06440, section 2.2 ("Activation"). torch-pruning's own keeps the last
    batch only, and reads layer inputs.
    """
    m = statistics.moments
    return np.asarray(m.a) / m.pixels


def photo_mean(kind: str) -> Callable[[ChannelStatistics], np.ndarray]:
    """The mean over photos of a kind of `PHOTO_SCORES`; NaN where no photo had a mark."""

    def score(statistics: ChannelStatistics) -> np.ndarray:
        count = statistics.photos.get(kind, 0)
        if not count:
            return np.full(len(statistics.total), np.nan)
        return np.asarray(statistics.by_photo[kind] / count)

    return score


def _above(statistics: ChannelStatistics, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, and marked pixels, above the threshold that ``share`` of all pixels exceed."""
    if not 0 < share < 1:
        raise UsageError(f"top_share must be in (0, 1), got {share}")
    # From the strongest bin down, leaving out bin 0: what never answers is never strong.
    total = statistics.total[:, :0:-1]
    inside = statistics.inside[:, :0:-1]
    strong = np.cumsum(total, axis=1)
    wanted = np.minimum(share * statistics.pixels, strong[:, -1])[:, None]
    taken = np.clip(wanted - (strong - total), 0, total)  # of each bin, how many are strong
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(total > 0, taken / total, 0.0)
    return taken.sum(1), (inside * part).sum(1)
