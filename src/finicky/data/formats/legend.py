"""What the values or colours of Pascal VOC's masks stand for.

CVAT writes ``labelmap.txt``, labelme's converter ``class_names.txt``, Pascal VOC itself neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from finicky.classes import UNLABELLED, ClassTable
from finicky.data.formats.record import class_named
from finicky.errors import DataError
from finicky.masks import IGNORE

_GROUND = -1  # stands for what is background there
_GROUND_NAMES = ("background", "_background_")


@dataclass(frozen=True)
class Legend:
    """Values and colours, each with a class id, or -1 for background.

    Attributes:
        values: Of masks with one channel.
        colors: Red, green and blue, of masks in colour or with a palette; may be empty.
    """

    values: Mapping[int, int]
    colors: Mapping[tuple[int, ...], int] = field(default_factory=dict)

    def ids(self, image: Image.Image, rest: int, name: str) -> np.ndarray:
        """Class ids of a mask; its background becomes ``rest`` and void (255) unlabelled."""
        if self.colors and image.mode not in ("L", "1"):
            # Which number a colour has in a palette is the writer's own affair.
            values = np.asarray(image) if image.mode == "P" else None
            return self._from_colors(np.asarray(image.convert("RGB")), values, rest, name)
        return self._from_values(np.asarray(image), rest, name)

    def _from_colors(
        self, rgb: np.ndarray, values: np.ndarray | None, rest: int, name: str
    ) -> np.ndarray:
        codes = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        void = np.zeros(codes.shape, bool) if values is None else values == IGNORE
        ids, known = np.full(codes.shape, UNLABELLED, np.uint8), void.copy()
        for (red, green, blue), value in self.colors.items():
            here = (codes == (red << 16 | green << 8 | blue)) & ~void
            ids[here] = rest if value == _GROUND else value
            known |= here
        if not known.all():
            raise DataError(f"{name} holds colours that labelmap.txt does not declare")
        return ids

    def _from_values(self, values: np.ndarray, rest: int, name: str) -> np.ndarray:
        if values.ndim != 2:
            raise DataError(
                f"{name} is in colour, and there is no labelmap.txt to explain the colours"
            )
        table = {**self.values, IGNORE: UNLABELLED}
        found = np.unique(values).tolist()
        if unknown := [value for value in found if value not in table]:
            raise DataError(f"{name} holds the values {unknown[:5]}, which are no classes")
        ids = np.zeros(values.shape, np.uint8)
        for value in found:
            ids[values == value] = rest if table[value] == _GROUND else table[value]
        return ids


def read_legend(source: Path, classes: ClassTable) -> Legend:
    """The legend of a folder: CVAT's, labelme's, or the class ids of the project and 0."""
    for path in sorted(source.rglob("labelmap.txt")):
        return _of_cvat(path, classes)
    for path in sorted(source.rglob("class_names.txt")):
        names = path.read_text("utf-8").split("\n")
        return Legend({n: _class(name, classes) for n, name in enumerate(names) if name.strip()})
    return Legend({0: _GROUND, **{entry.id: entry.id for entry in classes}})


def _of_cvat(path: Path, classes: ClassTable) -> Legend:
    values: dict[int, int] = {}
    colors: dict[tuple[int, ...], int] = {}
    for line in path.read_text("utf-8", "replace").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = (int(part) for part in rest.split(":")[0].split(","))
        except ValueError as error:
            raise DataError(f"labelmap.txt: {line!r} is not name:r,g,b::") from error
        values[len(values)] = colors[red, green, blue] = _class(name, classes)
    return Legend(values, colors)


def _class(name: str, classes: ClassTable) -> int:
    ground = name.strip().casefold() in _GROUND_NAMES
    return _GROUND if ground else class_named(name, classes).id
