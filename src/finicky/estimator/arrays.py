"""Photos and masks as scikit-learn hands them around: arrays, or paths of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from finicky.classes import DEFAULT_CLASSES
from finicky.errors import ShapeError, UsageError
from finicky.images import read_image, resize_image
from finicky.masks import read_mask, target_mask


@dataclass(frozen=True)
class Photos:
    """N photos, read and brought to one size when a batch of them is asked for.

    Attributes:
        source: ``(N, H, W, 3)`` uint8; or a list of N paths, or of N photos of several sizes.
        size: Side in px.
    """

    source: np.ndarray | list[Path] | list[np.ndarray]
    size: int

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """``(n, size, size, 3)`` uint8 RGB."""
        numbers = np.arange(len(self))[rows]
        found = np.empty((len(numbers), self.size, self.size, 3), dtype=np.uint8)
        for place, number in enumerate(numbers):
            photo = self.original(int(number))
            if photo.shape[:2] != (self.size, self.size):
                photo = resize_image(photo, self.size, self.size)
            found[place] = photo
        return found

    def original(self, number: int) -> np.ndarray:
        """One photo at its own size."""
        photo = self.source[number]
        return read_image(photo) if isinstance(photo, Path) else np.asarray(photo)


def as_photos(X: Any, size: int) -> Photos | None:
    """Photos or paths as `Photos`; ``None`` for a table, which is scikit-learn's to look at.

    Raises:
        ShapeError: An array of photos has another form than ``(N, H, W, 3)`` uint8.
    """
    if isinstance(X, (list, tuple)) and X and all(isinstance(x, (str, Path)) for x in X):
        return Photos([Path(x) for x in X], size)
    if isinstance(X, (list, tuple)) and X and all(_is_picture(x) for x in X):
        if len({x.shape for x in X}) > 1:
            return Photos([np.asarray(x) for x in X], size)
        X = np.stack(X)
    if not isinstance(X, np.ndarray):
        return None
    if X.dtype == object and X.ndim == 1 and len(X) and all(_is_picture(x) for x in X):
        return as_photos(list(X), size)  # photos of several sizes, as an array
    if X.ndim == 1 and len(X) and all(isinstance(x, (str, Path)) for x in X.tolist()):
        return Photos([Path(x) for x in X.tolist()], size)
    if X.ndim < 3:
        return None
    if X.ndim != 4 or X.shape[3] != 3 or X.dtype != np.uint8:
        raise ShapeError(
            f"photos must be (N, H, W, 3) uint8 RGB, got {X.shape} {X.dtype}; or give paths, or a "
            "table (N, D) of features"
        )
    return Photos(X, size)


def as_masks(masks: Any, photos: Photos) -> list[np.ndarray | None]:
    """Where the target is, one ``(size, size)`` float32 share in [0, 1] a photo; ``None``: unknown.

    Files are read as `read_mask` does: their classes of role target count.

    Raises:
        ShapeError: There is not one mask a photo, or one has another size than its photo.
        UsageError: A mask is neither an array nor a path.
    """
    if masks is None:
        return [None] * len(photos)
    if len(masks) != len(photos):
        raise ShapeError(f"one mask a photo expected, got {len(masks)} for {len(photos)} photos")
    return [_mask(mask, photos, number) for number, mask in enumerate(masks)]


def _mask(mask: Any, photos: Photos, number: int) -> np.ndarray | None:
    if mask is None:
        return None
    if isinstance(mask, (str, Path)):
        classes = DEFAULT_CLASSES
        marked = target_mask(read_mask(Path(mask), classes), classes.targets(None))
    else:
        marked = np.asarray(mask)
        if marked.ndim != 2 or marked.dtype.kind not in "bui":
            raise UsageError(
                f"a mask must be (H, W) of bool or integers, or a path, got {marked.shape} "
                f"{marked.dtype}"
            )
        marked = marked != 0
    wanted = photos.original(number).shape[:2]
    if marked.shape != wanted:
        raise ShapeError(
            f"mask {number} is {marked.shape[1]}×{marked.shape[0]} px, its photo "
            f"{wanted[1]}×{wanted[0]}"
        )
    if marked.shape == (photos.size, photos.size):
        return marked.astype(np.float32)
    image = Image.fromarray(marked.astype(np.uint8) * 255)
    small = image.resize((photos.size, photos.size), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def _is_picture(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 3
        and value.shape[2] == 3
        and value.dtype == np.uint8
    )


def marked_rows(masks: Sequence[np.ndarray | None]) -> np.ndarray:
    """Numbers of the photos whose mask shows the target."""
    return np.array([i for i, m in enumerate(masks) if m is not None and m.any()], dtype=np.int64)
