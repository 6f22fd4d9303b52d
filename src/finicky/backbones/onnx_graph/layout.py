"""Operators on maps that were turned to channels last, taken to the maps as they were before.

TensorFlow's converters leave sums, factors and activations between two Transposes. Numbers that
belong to a channel must lie along the channels' axis to be cut with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finicky.backbones.wiring import Draft, Ref, Step

# What does the same to every number, wherever it lies.
ELEMENTWISE = frozenset(
    """
    Abs Add Celu Clip Div Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Log Max Min Mish Mul Neg
    PRelu Pow Reciprocal Relu Selu Sigmoid Softplus Softsign Sqrt Sub Sum Tanh ThresholdedRelu
    """.split()  # noqa: SIM905
)


def turned(draft: Draft, inputs: Sequence[Any]) -> tuple[list[Any], list[int]] | None:
    """The inputs before they were all turned alike, and how they were; None where they were not.

    Args:
        draft: Knows what made each value.
        inputs: Of an elementwise operator: values, known arrays or nothing.
    """
    steps = [draft.step_of(value) for value in inputs if isinstance(value, Ref)]
    if not steps or not all(_turns(step) for step in steps):
        return None
    orders = [list(step.args[1]) for step in steps if step is not None]
    if any(order != orders[0] or len(order) != 4 for order in orders):
        return None
    if any(isinstance(v, np.ndarray) and v.ndim > 4 for v in inputs):
        return None
    sources = iter(step.args[0] for step in steps if step is not None)
    back = [int(i) for i in np.argsort(orders[0])]
    return [next(sources) if isinstance(v, Ref) else _back(v, back) for v in inputs], orders[0]


def _turns(step: Step | None) -> bool:
    return step is not None and step.call == "aten.permute.default"


def _back(value: Any, order: list[int]) -> Any:
    if not isinstance(value, np.ndarray) or value.size == 1:
        return value
    return value.reshape((1,) * (4 - value.ndim) + value.shape).transpose(order)
