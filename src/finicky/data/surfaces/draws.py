"""Random numbers within the ranges of a style."""

from __future__ import annotations

import numpy as np

Range = tuple[float, float]


def between(rng: np.random.Generator, low_high: Range) -> float:
    """A number spread evenly over ``low_high``."""
    low, high = low_high
    return float(rng.uniform(low, high))


def log_between(rng: np.random.Generator, low_high: Range) -> float:
    """A number spread evenly over the logarithm of ``low_high``; both ends above 0."""
    low, high = low_high
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def count_between(rng: np.random.Generator, low_high: tuple[int, int]) -> int:
    """A whole number from ``low_high``, both ends included."""
    low, high = low_high
    return int(rng.integers(low, high + 1))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with that probability."""
    return bool(rng.random() < probability)
