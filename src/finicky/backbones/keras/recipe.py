"""A network as our own list of layers: plain JSON, no weights, every name known to the builder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finicky.errors import DataError

VERSION = 1
# Where a network leaves its input's size open, shapes are worked out for this one.
USUAL_SIZE = 224


@dataclass(frozen=True)
class Entry:
    """One primitive layer.

    Attributes:
        name: Unique; letters, digits and ``_`` only, as PyTorch's modules are named.
        kind: A key of the builder's table.
        inputs: Numbers of earlier entries.
        options: What the builder needs, plain JSON.
    """

    name: str
    kind: str
    inputs: tuple[int, ...] = ()
    options: dict[str, Any] | None = None

    def option(self, key: str) -> Any:
        """One setting; a missing one is a `DataError`."""
        if self.options is None or key not in self.options:
            raise DataError(f"layer {self.name} ({self.kind}) lacks {key}")
        return self.options[key]


@dataclass(frozen=True)
class Recipe:
    """All layers; entry 0 is the input.

    Attributes:
        height, width: Of the input in px; ``None`` where the network takes any.
        channels_first: The order of axes that axis numbers refer to.
        entries: In an order in which they can run.
        output: Number of the entry that gives the result.
    """

    height: int | None
    width: int | None
    channels_first: bool
    entries: tuple[Entry, ...]
    output: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width to work out shapes with."""
        return self.height or USUAL_SIZE, self.width or USUAL_SIZE

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return {
            "version": VERSION,
            "height": self.height,
            "width": self.width,
            "channels_first": self.channels_first,
            "layers": [[e.name, e.kind, list(e.inputs), e.options or {}] for e in self.entries],
            "output": self.output,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recipe:
        """The inverse of `to_json`.

        Raises:
            DataError: It is damaged, or newer than this version.
        """
        try:
            if value["version"] != VERSION:
                raise DataError(f"layer list of version {value['version']}: update Finicky")
            entries = tuple(
                Entry(name, kind, tuple(inputs), options)
                for name, kind, inputs, options in value["layers"]
            )
            return cls(
                value["height"], value["width"], value["channels_first"], entries, value["output"]
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"a Keras layer list is damaged: {error}") from error
