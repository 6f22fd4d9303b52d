"""Groups of channels, plans of what stays, and the cut itself."""

from finicky.pruning.allocation import ALLOCATIONS, LEVELS, Allocation, keep_count
from finicky.pruning.channels import ChannelGroup
from finicky.pruning.counts import Counts, count
from finicky.pruning.description import BackboneDescription, describe_backbone
from finicky.pruning.groups import find_groups, group_scores
from finicky.pruning.plan import (
    METHODS,
    PruningPlan,
    candidate_name,
    check_keep_ratio,
    parse_ratios,
    plan_from_kept,
    plan_from_scores,
)
from finicky.pruning.slicing import Cutter
from finicky.pruning.store import restore, save_pruned
from finicky.pruning.surgery import cut, cut_backbone, cut_both

__all__ = [
    "ALLOCATIONS",
    "LEVELS",
    "METHODS",
    "Allocation",
    "BackboneDescription",
    "ChannelGroup",
    "Counts",
    "Cutter",
    "PruningPlan",
    "candidate_name",
    "check_keep_ratio",
    "count",
    "cut",
    "cut_backbone",
    "cut_both",
    "describe_backbone",
    "find_groups",
    "group_scores",
    "keep_count",
    "parse_ratios",
    "plan_from_kept",
    "plan_from_scores",
    "restore",
    "save_pruned",
]
