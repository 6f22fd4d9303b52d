"""Latency in turn, and the conditions of a measurement; numpy and ONNX Runtime only."""

from finicky.timing.conditions import environment
from finicky.timing.latency import (
    LatencyComparison,
    LatencyReport,
    LatencyStats,
    available_cores,
    load_problem,
    measure_in_turn,
)

__all__ = [
    "LatencyComparison",
    "LatencyReport",
    "LatencyStats",
    "available_cores",
    "environment",
    "load_problem",
    "measure_in_turn",
]
