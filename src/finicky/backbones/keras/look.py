"""The first look at a Keras file, taken by a child process: check all of it, read all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finicky.backbones.keras.document import open_document
from finicky.backbones.keras.network import flatten
from finicky.backbones.keras.translate import KNOWN, translate


def look(path: Path) -> dict[str, Any]:
    """Whether the file is plain and its network one that we know; nothing is built.

    Raises:
        FinickyError: The file is refused; the message names the part.
    """
    with open_document(path) as document:
        layers = 0
        if document.model is not None:
            network = flatten(document.model, document.name, KNOWN)
            layers = len(translate(network, document.keras_3)[0].entries)
        for name in document.weights.datasets:
            document.weights.array(name)
        return {"tensors": len(document.weights.datasets), "layers": layers}
