"""What translating a network leaves: our list of its layers, and where their weights belong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from finicky.backbones.keras.recipe import Entry


@dataclass(frozen=True)
class Holder:
    """A Keras layer that has weights.

    Attributes:
        path: As `Call.path`.
        kind: Its Keras class.
        slots: For each of its arrays, in Keras' order: its role, and the entry that it belongs to
            (``None``: it is read and left out).
    """

    path: tuple[str, ...]
    kind: str
    slots: tuple[tuple[str, str | None], ...]


@dataclass
class Translation:
    """What a network came to. ``notes`` are for people: preprocessing found inside, and so on."""

    file: str
    keras_3: bool
    entries: list[Entry] = field(default_factory=list)
    holders: list[Holder] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scaled_inside: bool = False
    orders: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def add(self, name: str, kind: str, inputs: tuple[int, ...], **options: Any) -> int:
        """Append an entry under a name that PyTorch takes; returns its number."""
        plain = re.sub(r"\W", "_", name[-200:], flags=re.ASCII) or "layer"
        plain = f"layer_{plain}" if plain[0].isdigit() else plain
        unique, number = plain, 1
        while unique in self.names:
            unique, number = f"{plain}_{number}", number + 1
        self.names.add(unique)
        self.entries.append(Entry(unique, kind, inputs, options))
        return len(self.entries) - 1
