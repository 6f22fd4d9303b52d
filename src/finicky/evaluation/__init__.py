"""Quality of predictions, each number with its interval."""

from finicky.evaluation.intervals import Interval, bootstrap_difference, bootstrap_metrics
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
    "QualityMetrics",
    "bootstrap_difference",
    "bootstrap_metrics",
    "confusion",
    "score_predictions",
]
