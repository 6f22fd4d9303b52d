"""The scikit-learn face: `FinickyClassifier`, and what `finicky.load` reads."""

from finicky.estimator.classifier import FinickyClassifier, load

__all__ = ["FinickyClassifier", "load"]
