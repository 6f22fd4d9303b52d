"""Reading single settings of a Keras layer, each with its range."""

from __future__ import annotations

import math
from typing import Any

from finicky.backbones.keras.network import Call
from finicky.errors import DataError, UnsupportedModelError

MAX_CHANNELS = 1 << 20
MAX_KERNEL = 1 << 12


class Settings:
    """One layer's config, read with types and ranges; anything else names layer and field."""

    def __init__(self, file: str, call: Call) -> None:
        self.file, self.call = file, call

    def get(self, key: str, default: Any = None) -> Any:
        """As it came; ``default`` where it is missing or null."""
        value = self.call.config.get(key)
        return default if value is None else value

    def refuse(self, key: str, value: Any, why: str) -> UnsupportedModelError:
        """The error for a setting that is understood and not supported."""
        return UnsupportedModelError(
            f"{self.file}: layer {self.call.name} ({self.call.kind}): {key}={str(value)[:60]} {why}"
        )

    def damaged(self, key: str, value: Any, expected: str) -> DataError:
        """The error for a setting that makes no sense."""
        return DataError(
            f"{self.file}: layer {self.call.name} ({self.call.kind}): expected {expected} for "
            f"{key}, got {str(value)[:60]}"
        )

    def count(self, key: str, default: int | None = None, most: int = MAX_CHANNELS) -> int:
        """A whole number from 1 to ``most``."""
        value = self.get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.damaged(key, value, f"a whole number from 1 to {most:,}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            raise self.damaged(key, value, "a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key, default)
        if not isinstance(value, (bool, int)):
            raise self.damaged(key, value, "true or false")
        return bool(value)

    def pair(self, key: str, default: Any = None, most: int = MAX_KERNEL) -> list[int]:
        """Height and width; one number stands for both."""
        value = self.get(key, default)
        both = [value, value] if isinstance(value, int) else value
        if not isinstance(both, list) or len(both) != 2:
            raise self.damaged(key, value, "two whole numbers")
        if not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= most for n in both):
            raise self.damaged(key, value, f"whole numbers from 1 to {most:,}")
        return list(both)

    def sides(self, key: str) -> list[int]:
        """``[top, bottom, left, right]`` from any of the three forms that Keras knows."""
        value = self.get(key, 1)
        rows = [value, value] if isinstance(value, int) else value
        if not isinstance(rows, list) or len(rows) != 2:
            raise self.damaged(key, value, "pixels at each side")
        flat = [n for row in rows for n in (row if isinstance(row, list) else [row, row])]
        if len(flat) != 4 or not all(isinstance(n, int) and 0 <= n <= MAX_KERNEL for n in flat):
            raise self.damaged(key, value, f"pixels at each side, 0 to {MAX_KERNEL:,}")
        return flat

    def numbers(self, key: str, default: float) -> float | list[float]:
        """A number, or one a channel, in whatever nesting Keras wrote them."""
        value = self.get(key, default)
        if isinstance(value, dict):  # an array that Keras wrote with its type
            value = (value.get("config") or {}).get("value", value)
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        rows = value if isinstance(value, list) else [value]
        good = all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in rows)
        if not good or not all(_finite(n) for n in rows) or len(rows) > MAX_CHANNELS:
            raise self.damaged(key, value, "a number, or one a channel")
        return [float(n) for n in rows] if isinstance(value, list) else float(value)

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """One of a few words."""
        value = self.get(key, default)
        if value not in choices:
            raise self.refuse(key, value, f"is not supported, only {' or '.join(choices)}")
        return str(value)


def _finite(value: float) -> bool:
    return math.isfinite(value)
