"""A classifier with a map as an ONNX file whose map keeps to PyTorch's, whatever the network.

Responses differ between runtimes in their last digits. A pixel head multiplies that where its
probability is steep, and on some networks by more than an exported file may differ, however it was
fitted. The same head with smaller logits marks the same pixels, from thresholds that go along, and
differs less: so the file itself says how flat its map must be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finicky.errors import FinickyError
from finicky.export.classifier import Classifier
from finicky.export.onnx_file import TOLERANCE, Parity, export_onnx
from finicky.flatness import flatten_probability
from finicky.training import PixelHead

# Half of what is allowed, for tiles and ways of running that were not tried.
STEADY = TOLERANCE / 2
# An EfficientNet's deep responses took 64. At 1024 a map still has tens of thousands of values.
MOST_FLATTENING = 1024.0


@dataclass(frozen=True)
class ExportedMap:
    """What was written.

    Attributes:
        head: The pixel head in the file.
        high: Threshold that begins a region, in its map.
        low: Threshold that extends it.
        flattened: By how much its logits are smaller than those of the head that was given.
        parity: How well the file agrees with PyTorch.
    """

    head: PixelHead
    high: float
    low: float
    flattened: float
    parity: Parity


def export_map(
    make: Callable[[PixelHead], Classifier],
    pixels: PixelHead,
    thresholds: tuple[float, float],
    path: Path,
    *,
    size: int,
    class_names: Sequence[str],
    tiles: np.ndarray,
    metadata: Mapping[str, Any],
    tolerance: float = TOLERANCE,
) -> ExportedMap:
    """Write the file, flattening the map until it agrees with PyTorch.

    Args:
        make: The classifier with a given pixel head.
        pixels: That head, as it was fitted.
        thresholds: Of its map: to begin a region and to extend it.
        path: Where; whole or not at all.
        size: Side of a tile in px.
        class_names: Of the two outputs.
        tiles: To compare on.
        metadata: More for the file's entry; the map's thresholds are added to ``thresholds``.
        tolerance: Largest scale-relative difference of a logit that passes.

    Raises:
        FinickyError: The export fails, or disagrees with PyTorch; no file is left then.
    """
    factor = 1.0
    while True:
        flat = pixels.flattened(factor)
        high, low = (flatten_probability(value, factor) for value in thresholds)
        own = {"map_high": high, "map_low": low, "map_flattened": factor}
        limits = {**metadata.get("thresholds", {}), **own}
        parity = export_onnx(
            make(flat),
            path,
            size=size,
            class_names=class_names,
            tiles=tiles,
            metadata={**metadata, "thresholds": limits},
            tolerance=tolerance,
            most_map=math.inf,
        )
        difference = parity.map_difference or 0.0
        if difference <= STEADY:
            return ExportedMap(flat, high, low, factor, parity)
        if factor >= MOST_FLATTENING or not math.isfinite(difference):
            path.unlink()
            raise FinickyError(f"{path.name} disagrees with PyTorch: {parity.told(tolerance)}")
        more = 2.0 ** max(1, math.ceil(math.log2(min(difference / STEADY, 16))))
        factor = min(MOST_FLATTENING, factor * more)
