"""Quality with intervals, latency in turn, and the conditions of both."""

from finicky.evaluation.conditions import environment
from finicky.evaluation.intervals import Interval, bootstrap_difference, bootstrap_metrics
from finicky.evaluation.latency import (
    LatencyComparison,
    LatencyReport,
    LatencyStats,
    measure_in_turn,
)
from finicky.evaluation.metrics import (
    METRICS,
    ConfusionMatrix,
    QualityMetrics,
    confusion,
    score_predictions,
)

__all__ = [
    "METRICS",
    "ConfusionMatrix",
    "Interval",
    "LatencyComparison",
    "LatencyReport",
    "LatencyStats",
    "QualityMetrics",
    "bootstrap_difference",
    "bootstrap_metrics",
    "confusion",
    "environment",
    "measure_in_turn",
    "score_predictions",
]
