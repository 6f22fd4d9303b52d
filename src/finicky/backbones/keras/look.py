"""The first look at a Keras file, taken by a child process: check all of it, read all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finicky.backbones.keras.hdf5 import open_checked


def look(path: Path) -> dict[str, Any]:
    """Whether the file is plain; how many tensors it has.

    Raises:
        FinickyError: The file is refused; the message names the part.
    """
    with open_checked(path, path.name) as safe:
        for name in safe.datasets:
            safe.array(name)
        return {"tensors": len(safe.datasets)}
