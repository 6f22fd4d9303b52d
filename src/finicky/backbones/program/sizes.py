"""What programs with open sizes do with plain numbers: arithmetic of sizes, and checks of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from finicky.errors import UnsupportedModelError

ARITHMETIC: dict[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in (
        *("add", "sub", "mul", "floordiv", "truediv", "mod", "neg"),
        *("eq", "ne", "lt", "le", "gt", "ge"),
    )
} | {"torch.sym_max": max, "torch.sym_min": min, "torch.sym_float": float, "math.trunc": int}
_CHECKS = ("_assert_", "sym_constrain", "_functional_assert", "_functional_sym_constrain")


def compute(target: str, values: Iterable[Any]) -> float:
    """The result of one of `ARITHMETIC`.

    Raises:
        UnsupportedModelError: It is not made of numbers, has no result, or one that no size has.
            Python's numbers and lists grow without end, and a file may say ``add`` ever again.
    """
    values = list(values)
    if not all(isinstance(value, (int, float)) for value in values):
        raise UnsupportedModelError(f"operator {target} is given what is no number")
    try:
        found = ARITHMETIC[target](*values)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise UnsupportedModelError(f"operator {target} does not run: {error!s:.80}") from error
    if not (isinstance(found, (int, float)) and abs(found) < 2**63):
        raise UnsupportedModelError(f"operator {target} makes a number that no size has")
    return found


def is_check(target: str) -> bool:
    """Whether it checks sizes or types, which the network passed when it was exported."""
    return target.startswith("aten.") and target.split(".")[1].startswith(_CHECKS)
