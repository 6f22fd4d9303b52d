"""From a channel's statistics to one number: higher = keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finicky.errors import UsageError, nearest_names
from finicky.importance.statistics import ChannelStatistics, Criterion

# Network Dissection takes the top 0.005 for concepts as large as a sofa. See docs/explanation.
TOP_SHARE = 0.02


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


@dataclass(frozen=True)
class NamedCriterion:
    """A criterion that people can name, with the sentence that help shows."""

    score: Criterion
    summary: str


CRITERIA: Mapping[str, NamedCriterion] = {
    "quantile-iou": NamedCriterion(
        quantile_iou, f"IoU of the strongest {TOP_SHARE:.1%} of responses with the masks"
    ),
    "best-iou": NamedCriterion(best_iou, "IoU at each filter's own best threshold"),
    "rank": NamedCriterion(
        rank_separation, "how surely marked pixels answer more strongly than unmarked ones"
    ),
}
DEFAULT_CRITERION = "quantile-iou"


def criterion(name: str) -> Criterion:
    """The criterion of that name; an unknown one is a `UsageError` that lists the nearest."""
    if name not in CRITERIA:
        raise UsageError(f"no criterion named {name!r}. {nearest_names(name, CRITERIA)}")
    return CRITERIA[name].score


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
