"""The main job: many keep ratios of one network, measured, and the best one chosen."""

from finicky.sweep.decide import SweepResult, select_again
from finicky.sweep.execution import Execution
from finicky.sweep.face import Sweep, SweepCandidate
from finicky.sweep.folder import RunFolder
from finicky.sweep.run import run_sweep
from finicky.sweep.search import SearchSettings
from finicky.sweep.settings import (
    DEFAULT_KEEP_RATIOS,
    DecisionSettings,
    SweepSettings,
    parse_ratios,
)
from finicky.sweep.table import COLUMNS, read_table

__all__ = [
    "COLUMNS",
    "DEFAULT_KEEP_RATIOS",
    "DecisionSettings",
    "Execution",
    "RunFolder",
    "SearchSettings",
    "Sweep",
    "SweepCandidate",
    "SweepResult",
    "SweepSettings",
    "parse_ratios",
    "read_table",
    "run_sweep",
    "select_again",
]
