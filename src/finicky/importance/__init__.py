"""Responses and masks to one number a channel."""

from finicky.importance.chain import links
from finicky.importance.criteria import CRITERIA, DEFAULT_CRITERION, criterion
from finicky.importance.original import INPUT_SIZE as ORIGINAL_SIZE
from finicky.importance.original import OriginalChoice, OriginalScorer
from finicky.importance.resize import resize_linear_u8
from finicky.importance.responses import Tap, find_taps, listening
from finicky.importance.statistics import ChannelStatistics, ScoringBatch, collect
from finicky.importance.windows import WindowOptions, scoring_batches

__all__ = [
    "CRITERIA",
    "DEFAULT_CRITERION",
    "ORIGINAL_SIZE",
    "ChannelStatistics",
    "OriginalChoice",
    "OriginalScorer",
    "ScoringBatch",
    "Tap",
    "WindowOptions",
    "collect",
    "criterion",
    "find_taps",
    "links",
    "listening",
    "resize_linear_u8",
    "scoring_batches",
]
