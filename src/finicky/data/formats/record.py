"""What every format is read into and written from, and how foreign names find their photos."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from finicky.classes import UNLABELLED, ClassTable, MaskClass
from finicky.errors import DataError, MaskError, nearest_names


@dataclass(frozen=True)
class Annotated:
    """A photo's mask: ``ids`` is ``(H, W)`` uint8 of class ids, ``key`` the photo's."""

    key: str
    ids: np.ndarray


@dataclass(frozen=True)
class ExchangeOptions:
    """How formats that say less than ours, or say it otherwise, are understood and written.

    Attributes:
        unmarked: What a format's background, or what is not marked in it, becomes: the id of a
            class, or 0 for unlabelled. ``None``: what the format means by it.
        polygons: Whether COCO is written with polygons instead of runs.
        tolerance: How far the corners of polygons may be moved to have fewer of them, in px.
    """

    unmarked: int | None = None
    polygons: bool = False
    tolerance: float = 0.0


class PhotoIndex:
    """The photos of a project by the names that other tools know them by."""

    def __init__(
        self, sizes: Mapping[str, tuple[int, int]], *, problems: Mapping[str, str] | None = None
    ) -> None:
        """Take over names.

        Args:
            sizes: Key of each photo to its upright ``(width, height)`` in px.
            problems: Key of each photo that cannot be read to the reason.
        """
        self.sizes = dict(sizes)
        self._problems = dict(problems or {})
        self._keys: dict[str, list[str]] = {}
        for key in (*self.sizes, *self._problems):
            path = PurePosixPath(key)
            for name in {key, path.name, str(path.with_suffix("")), path.stem}:
                self._keys.setdefault(_plain(name), []).append(key)

    def find(self, name: str) -> str:
        """The key of the photo that a file of another tool calls ``name``, suffix or not.

        Raises:
            DataError: The name is a path out of the folder, or fits no photo or several.
        """
        check_name(name)
        path = PurePosixPath(name.replace("\\", "/"))
        for candidate in (str(path), path.name, str(path.with_suffix("")), path.stem):
            keys = self._keys.get(_plain(candidate), [])
            if len(keys) == 1:
                return self._readable(keys[0])
            if keys:
                raise DataError(f"{name!r} fits {len(keys)} photos: {', '.join(keys[:3])}")
        known = nearest_names(path.name, list(self.sizes)[:5000])
        raise DataError(f"no photo is called {name!r}. {known}")

    def knows(self, name: str) -> bool:
        """Whether a photo has that name, as `find` looks for it."""
        return _plain(name) in self._keys

    def _readable(self, key: str) -> str:
        if key in self._problems:
            raise DataError(self._problems[key])
        return key

    def blank(self, key: str, value: int = UNLABELLED) -> np.ndarray:
        """A mask of the photo's size."""
        width, height = self.sizes[key]
        return np.full((height, width), value, np.uint8)

    def check(self, key: str, shape: tuple[int, ...]) -> None:
        """Refuse annotations that were made at another size than the upright photo's."""
        width, height = self.sizes[key]
        if tuple(shape) != (height, width):
            turned = " It seems to lie on its side." if shape == (width, height) else ""
            raise MaskError(
                f"the annotation of {key} is {shape[1]}x{shape[0]} px but the photo is "
                f"{width}x{height} px (width x height, upright).{turned}"
            )


Reader = Callable[[Path, PhotoIndex, ClassTable, ExchangeOptions], Iterator[Annotated]]
Writer = Callable[[Sequence[Annotated], Path, ClassTable, ExchangeOptions], None]


def check_name(name: str) -> None:
    """Refuse names that could lead out of a folder, or that no file should have.

    Raises:
        DataError: The name is absolute, has a drive, ``..`` or control characters, or is empty.
    """
    plain = name.replace("\\", "/")
    parts = plain.split("/")
    bad = not plain or plain.startswith("/") or ".." in parts or ":" in plain
    if bad or not plain.isprintable() or len(plain) > 1000:
        raise DataError(f"{name[:80]!r} is no name of a photo in this project")


def class_named(name: str, classes: ClassTable) -> MaskClass:
    """The class that another tool calls ``name``; capitals do not count.

    Raises:
        DataError: There is none; the message lists those there are.
    """
    for entry in classes:
        if entry.name.casefold() == name.strip().casefold():
            return entry
    known = ", ".join(entry.name for entry in classes)
    raise DataError(
        f"the class {name!r} is not in this project (classes: {known}). Add it to finicky.toml, or "
        "rename it in the file."
    )


def background_id(classes: ClassTable) -> int:
    """The id of the background class; 0 where a project has none."""
    return next((c.id for c in classes if c.role == "background"), UNLABELLED)


def sole_target(classes: ClassTable) -> MaskClass:
    """The class that a binary format's foreground stands for.

    Raises:
        DataError: The project has several targets.
    """
    targets = classes.targets()
    if len(targets) > 1:
        names = ", ".join(c.name for c in targets)
        raise DataError(f"a binary mask stands for one target class, but there are: {names}")
    return targets[0]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
