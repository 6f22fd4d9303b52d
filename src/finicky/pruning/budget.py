"""Budgets instead of keep ratios: the largest cut network that costs no more than it may."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from finicky.errors import UsageError, nearest_names

Quantity = Literal["params", "macs", "size", "latency"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
_UNITS: dict[str, dict[str, float]] = {
    "params": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9},
    "macs": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9},
    "size": {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9},
    "latency": {"us": 1e-3, "ms": 1, "s": 1e3},
}
_EXAMPLES = "params=7%, params=500k, macs=10%, latency=12ms or size=1MB"
# Keep ratios are tried in steps of this.
STEP = 0.001


@dataclass(frozen=True)
class Budget:
    """A limit on what a network may cost.

    Attributes:
        quantity: ``params``, ``macs``, ``size`` (of ``model.onnx``) or ``latency`` (its p50 at
            batch 1 on one thread of this machine).
        limit: Parameters, multiply-accumulates, bytes or ms; with ``relative``, a share in (0, 1]
            of the unpruned network's.
        relative: Whether it is a share.
    """

    quantity: Quantity
    limit: float
    relative: bool = False

    def __str__(self) -> str:
        if self.relative:
            return f"{self.quantity} {self.limit:.4g} of the unpruned network's"
        return f"{self.quantity} {told(self.quantity, self.limit)}"

    def absolute(self, full: float) -> float:
        """The limit, where the unpruned network costs ``full``."""
        return self.limit * full if self.relative else self.limit


def parse_budget(text: str) -> Budget:
    """``params=7%``, ``macs=300M``, ``latency=12ms``, ``size=1MB`` to a budget.

    Raises:
        UsageError: It is none of these.
    """
    quantity, equals, amount = (part.strip() for part in text.partition("="))
    if not equals or quantity not in QUANTITIES:
        hint = nearest_names(quantity, QUANTITIES) if equals else ""
        raise UsageError(f"a budget is given as {_EXAMPLES}, got {text!r}. {hint}".rstrip())
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z%]*)", amount)
    units = _UNITS[quantity]
    unit = found[2].lower() if found else ""
    if found is None or (unit != "%" and unit not in units):
        wanted = ", ".join(repr(u) for u in ["%", *units] if u)
        raise UsageError(
            f"the budget of {quantity} is a number with one of {wanted}, got {amount!r}"
        )
    number = float(found[1])
    if number <= 0 or (unit == "%" and number > 100):
        raise UsageError(
            f"the budget of {quantity} must be above 0{' and at most 100 %' * (unit == '%')}, "
            f"got {amount}"
        )
    if unit == "%":
        return Budget(quantity, number / 100, relative=True)
    return Budget(quantity, number * units[unit])


def parse_budgets(texts: str | Sequence[str]) -> tuple[Budget, ...]:
    """Several of them; a single text may hold some with commas."""
    parts = texts.split(",") if isinstance(texts, str) else [p for t in texts for p in t.split(",")]
    return tuple(parse_budget(part) for part in parts if part.strip())


def told(quantity: str, amount: float) -> str:
    """An amount with its unit, for people."""
    if quantity == "latency":
        return f"{amount:.2f} ms"
    if quantity == "size":
        return f"{amount / 1e6:.3f} MB" if amount >= 1e5 else f"{amount / 1e3:.1f} kB"
    return f"{amount:,.0f}"


def largest_ratio(cost: Callable[[float], float], budget: Budget, name: str) -> float:
    """The largest keep ratio, in steps of `STEP`, that keeps a budget.

    Args:
        cost: What the network costs at a keep ratio, in the budget's unit; it must not fall as the
            ratio rises. Asked about a dozen times.
        budget: The limit.
        name: Of the network, for messages.

    Raises:
        UsageError: Even the smallest cut costs more; the message says how much.
    """
    full = cost(1.0)
    limit = budget.absolute(full)
    if full <= limit:
        return 1.0
    least = cost(STEP)
    if least > limit:
        raise refused(budget, least, limit, name)
    low, high = 1, round(1 / STEP)
    while high - low > 1:
        middle = (low + high) // 2
        if cost(middle * STEP) <= limit:
            low = middle
        else:
            high = middle
    return round(low * STEP, 6)


def refused(budget: Budget, least: float, limit: float, name: str) -> UsageError:
    """What to say where even the smallest cut costs too much."""
    allowed = f" and {told(budget.quantity, limit)} are allowed" if budget.relative else ""
    return UsageError(
        f"the budget {budget} cannot be kept: the smallest cut of {name} has "
        f"{budget.quantity} {told(budget.quantity, least)}{allowed}; "
        "allow more, or take another backbone"
    )
