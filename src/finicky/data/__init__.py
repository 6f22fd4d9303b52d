"""Photos with masks, class folders, splits by group, and tiles."""

from finicky.data.folders import Sample, SampleTable, read_class_folders
from finicky.data.pairs import (
    Pair,
    PairScan,
    Rejected,
    UsablePairs,
    find_pairs,
    load_pair,
    usable_pairs,
)
from finicky.data.splits import Split, carve_validation, read_split_csv, split_groups
from finicky.data.tiles import TileReport, cut_tiles

__all__ = [
    "Pair",
    "PairScan",
    "Rejected",
    "Sample",
    "SampleTable",
    "Split",
    "TileReport",
    "UsablePairs",
    "carve_validation",
    "cut_tiles",
    "find_pairs",
    "load_pair",
    "read_class_folders",
    "read_split_csv",
    "split_groups",
    "usable_pairs",
]
