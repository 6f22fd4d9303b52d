"""Where an interrupted training goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finicky.errors import DataError
from finicky.training.stored import read_state, write_state


@dataclass(frozen=True)
class Checkpoint:
    """A safetensors file: tensors, and plain values beside them.

    Attributes:
        path: ``None``: nothing is kept.
        about: What the training depends on; a file about something else counts as none.
    """

    path: Path | None
    about: str

    def read(self) -> dict[str, Any] | None:
        """What was written last, or ``None``: a damaged file costs the work, not the run."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            state, about = read_state(self.path)
        except DataError:
            return None
        return state if about == self.about else None

    def write(self, state: dict[str, Any]) -> None:
        """Whole or not at all."""
        if self.path is not None:
            write_state(self.path, state, about=self.about)
