"""What the labeler needs to know of a project: its folders, its classes and its photos by id."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from finicky.classes import ClassTable
from finicky.errors import ImageError
from finicky.images import MAX_LABELLED_PIXELS, image_size, list_images


@dataclass(frozen=True)
class Photo:
    """One photo of the project, or one that cannot be read.

    Attributes:
        id: 16 hexadecimal digits; the only name under which the page may ask for it.
        key: Path relative to the photos folder, with ``/``.
        path: The file itself, never written.
        width: Of the upright photo, in px; 0 if it cannot be read.
        height: As ``width``.
        problem: Why it cannot be read, in one line; empty if it can.
    """

    id: str
    key: str
    path: Path
    width: int
    height: int
    problem: str = ""


@dataclass(frozen=True)
class Workplace:
    """Where photos are, where masks and notes go, and what the mask numbers mean."""

    root: Path
    photos: Path
    masks: Path
    classes: ClassTable

    @property
    def state(self) -> Path:
        """Folder of status, notes, backups and copies kept after conflicts."""
        return self.root / "state"

    @property
    def id(self) -> str:
        """Tells projects apart in one browser; says nothing about the path."""
        return hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:16]

    def scan(self) -> tuple[Photo, ...]:
        """All photos in the order of their keys; those that cannot be read say why.

        Raises:
            UsageError: The photos folder does not exist.
            DataError: It holds no image.
        """
        inside = self.masks.resolve()
        return tuple(
            _photo(path, path.relative_to(self.photos).as_posix(), self.id)
            for path in list_images(self.photos)
            if not path.resolve().is_relative_to(inside)
        )


def mask_paths(photos: tuple[Photo, ...], masks: Path) -> dict[str, Path]:
    """Photo id -> the mask file to read and write.

    ``<key>.png``, unless only ``<key without suffix>.png`` is there and no other photo has that
    name: then that file goes on being used, because two masks of one photo would be an error.
    """
    stems = Counter(_stem(photo.key) for photo in photos)
    found = {}
    for photo in photos:
        own, short = masks / f"{photo.key}.png", masks / f"{_stem(photo.key)}.png"
        use_short = not own.exists() and stems[_stem(photo.key)] == 1 and short.exists()
        found[photo.id] = short if use_short else own
    return found


def _stem(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _photo(path: Path, key: str, project: str) -> Photo:
    # With the project's id, so that a browser never takes one project's tiles for another's.
    name = hashlib.sha256(f"{project}/{key}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    try:
        width, height = image_size(path, max_pixels=MAX_LABELLED_PIXELS)
    except ImageError as error:
        return Photo(name, key, path, 0, 0, str(error))
    return Photo(name, key, path, width, height)
