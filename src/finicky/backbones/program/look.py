"""The first look at an exported program, for the child process: its graph, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finicky.backbones.program.document import read_document


def look(path: Path) -> dict[str, Any]:
    """Facts about an archive whose graph can be read.

    Raises:
        DataError, UnsupportedModelError: It cannot; the message names the offending part.
    """
    found = read_document(path)
    return {"nodes": len(found.nodes), "version": found.version}
