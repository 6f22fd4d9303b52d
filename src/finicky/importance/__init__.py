"""Responses and masks to one number a channel."""

from finicky.importance.chain import links
from finicky.importance.criteria import (
    CRITERIA,
    DEFAULT_CRITERION,
    PEERS,
    NamedCriterion,
    criterion,
)
from finicky.importance.evidence import Evidence, gather
from finicky.importance.joint import JointMoments
from finicky.importance.original import INPUT_SIZE as ORIGINAL_SIZE
from finicky.importance.original import OriginalChoice, OriginalScorer, original_counts
from finicky.importance.pooled import PooledTiles
from finicky.importance.pruner import MaskImportance
from finicky.importance.resize import resize_linear_u8
from finicky.importance.responses import Tap, find_taps, listening
from finicky.importance.sensitivity import measure_losses
from finicky.importance.statistics import ChannelStatistics, ScoringBatch, collect
from finicky.importance.windows import (
    TileOptions,
    WindowOptions,
    scoring_batches,
    tile_batches,
)

__all__ = [
    "CRITERIA",
    "DEFAULT_CRITERION",
    "ORIGINAL_SIZE",
    "PEERS",
    "ChannelStatistics",
    "Evidence",
    "JointMoments",
    "MaskImportance",
    "NamedCriterion",
    "OriginalChoice",
    "OriginalScorer",
    "PooledTiles",
    "ScoringBatch",
    "Tap",
    "TileOptions",
    "WindowOptions",
    "collect",
    "criterion",
    "find_taps",
    "gather",
    "links",
    "listening",
    "measure_losses",
    "original_counts",
    "resize_linear_u8",
    "scoring_batches",
    "tile_batches",
]
