"""Where an interrupted training goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finicky.files import atomic_path


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors and plain values; no objects.

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
            value = torch.load(self.path, weights_only=True, map_location="cpu")
            return value["state"] if value["about"] == self.about else None
        except Exception:  # torch raises whatever the bytes make it stumble over
            return None

    def write(self, state: dict[str, Any]) -> None:
        """Whole or not at all."""
        if self.path is not None:
            with atomic_path(self.path) as temporary:
                torch.save({"about": self.about, "state": state}, temporary)
