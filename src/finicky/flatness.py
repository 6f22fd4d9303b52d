"""Probabilities of a map whose logits are divided, so that runtimes agree on it, and back.

A file says by how much under ``thresholds.map_flattened``; its ``map_high`` and ``map_low`` are
those of its own flat output. Whoever reads the file turns all three back, and shows people
probabilities as they were fitted.
"""

from __future__ import annotations

import numpy as np


def flatten_probability(value: float, factor: float) -> float:
    """Where a probability in (0, 1) lies in the map of a flattened head."""
    return 1 / (1 + (1 / value - 1) ** (1 / factor))


def restore_probability(value: float, factor: float) -> float:
    """The inverse of `flatten_probability`."""
    return float(restore_probabilities(np.array([value]), factor)[0])


def restore_probabilities(values: np.ndarray, factor: float) -> np.ndarray:
    """The inverse of `flatten_probability` for many, of any shape, each in [0, 1]."""
    if factor == 1:
        return values
    with np.errstate(divide="ignore", over="ignore"):
        odds = np.exp(factor * (np.log1p(-values) - np.log(values)))
        return np.asarray(1 / (1 + odds), dtype=values.dtype)
