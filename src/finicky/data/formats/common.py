"""What the formats that are documents share: finding files, cutting masks into regions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from finicky.classes import ClassTable, MaskClass
from finicky.data.formats import shapes
from finicky.data.formats.record import ExchangeOptions
from finicky.errors import DataError

_CURVE = 64  # corners of a circle


def class_regions(
    ids: np.ndarray, classes: ClassTable
) -> Iterator[tuple[MaskClass, np.ndarray, int, int]]:
    """Each connected region of each class: its box as ``(h, w)`` bool, and the box's x and y."""
    for entry in classes:
        for part, x, y in shapes.regions(ids == entry.id):
            yield entry, part, x, y


def one_ring(part: np.ndarray, x: int, y: int, options: ExchangeOptions) -> np.ndarray:
    """A region as one ring in the photo's coordinates, holes joined by bridges."""
    rings = [shapes.simplified(ring, options.tolerance) for ring in shapes.outlines(part)]
    return shapes.bridged(rings) + np.array([x, y])


def source_files(source: Path, pattern: str) -> list[Path]:
    """The file itself, or the matching ones below a folder, sorted."""
    found = [source] if source.is_file() else sorted(source.rglob(pattern))
    if not found:
        raise DataError(f"{source.name} holds no {pattern}")
    return found


def single_file(source: Path, pattern: str) -> Path:
    """The only matching file."""
    found = source_files(source, pattern)
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:3])
        raise DataError(f"{source.name} holds several files ({names}): name the one to import")
    return found[0]


def json_object(path: Path, value: Any) -> dict[str, Any]:
    """``value``, if it is an object."""
    if not isinstance(value, dict):
        raise DataError(f"{path.name}: expected a JSON object")
    return value


def box(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The corners of a box, from two opposite ones."""
    return np.array([a, [b[0], a[1]], b, [a[0], b[1]]])


def ellipse(centre: np.ndarray, radii: tuple[float, float]) -> np.ndarray:
    """An ellipse, or a circle, as a polygon."""
    angles = 2 * np.pi * np.arange(_CURVE) / _CURVE
    return centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii


def turned(ring: np.ndarray, degrees: float) -> np.ndarray:
    """A ring turned clockwise, as seen on the photo, around the middle of its box."""
    middle = (ring.min(axis=0) + ring.max(axis=0)) / 2
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return middle + (ring - middle) @ np.array([[cos, sin], [-sin, cos]])
