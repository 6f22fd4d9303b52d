"""The masks on disk: every accepted stroke is a whole new file, with its revision inside.

The revision, and which page wrote it, travel in a text chunk of the PNG itself. Mask and revision
can therefore never disagree, whatever moment the process is killed at. What decides whether a
stroke may be added is the hash of the file it was drawn on: a mask changed by another tab, another
server or another program is always noticed.
"""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from finicky.classes import UNLABELLED, ClassTable
from finicky.errors import DataError, FinickyError
from finicky.files import sha256_bytes, write_bytes
from finicky.images import MAX_LABELLED_PIXELS, opened_image
from finicky.labeler import patches
from finicky.labeler.workplace import Photo, Workplace, mask_paths
from finicky.masks import IGNORE, palette, read_mask

_CHUNK = "finicky"
# Decoded masks that are kept; at 100 Mpx each takes 100 MB.
_KEPT_BYTES = 250_000_000


@dataclass(frozen=True)
class Author:
    """Who wrote a revision: a page's ``session``, its stroke number, and what it was drawn on."""

    session: str = ""
    seq: int = 0
    parent: str = ""


@dataclass(frozen=True)
class StoredMask:
    """A mask as it is on disk.

    Attributes:
        ids: ``(H, W)`` uint8, not to be written to.
        version: Hash of the file; empty if there is none.
        revision: Counts saves, from 0 for none.
        author: Of this revision.
    """

    ids: np.ndarray
    version: str
    revision: int
    author: Author


class ConflictError(FinickyError):
    """A stroke was drawn on a mask that is no longer the stored one."""

    def __init__(self, current: StoredMask) -> None:
        super().__init__("this photo was changed elsewhere in the meantime")
        self.current = current


class MaskStore:
    """Reads and writes the masks of one project; safe to call from several threads."""

    def __init__(self, workplace: Workplace, photos: tuple[Photo, ...]) -> None:
        self._workplace = workplace
        self._paths = mask_paths(photos, workplace.masks)
        self._allowed = frozenset({UNLABELLED, IGNORE, *(c.id for c in workplace.classes)})
        self._locks = {photo.id: threading.Lock() for photo in photos}
        self._cache_lock = threading.Lock()
        self._cache: OrderedDict[str, tuple[tuple[int, ...], StoredMask]] = OrderedDict()

    def path(self, photo: Photo) -> Path:
        """Where the photo's mask is, or will be."""
        return self._paths[photo.id]

    def load(self, photo: Photo) -> StoredMask:
        """The stored mask, or an empty one.

        Raises:
            MaskError, ImageError: The file is there but does not fit the photo; it is not touched.
        """
        with self._locks[photo.id]:
            return self._load(photo)

    def save(self, photo: Photo, body: bytes, author: Author) -> StoredMask:
        """Add strokes to the mask that they were drawn on (``author.parent``).

        Strokes that are stored already, because an answer was lost, are not a conflict.

        Raises:
            ConflictError: Another page or program has changed the mask since.
            DataError: The strokes are damaged, or the file cannot be written; the old one is whole.
        """
        found = self._decode(photo, body)
        with self._locks[photo.id]:
            current = self._load(photo)
            if current.version != author.parent:
                # A page sends one request at a time. So if the last one to save was this page, all
                # that happened since its base was its own: an answer went missing.
                if current.author.session != author.session:
                    raise ConflictError(current)
                if current.author.seq >= author.seq:
                    return current
            self._keep_foreign(photo, current)
            ids = current.ids.copy()
            patches.apply(found, ids)
            return self._write(photo, ids, current.revision + 1, author)

    def keep_copy(self, photo: Photo, body: bytes, *, whole: bool, name: str) -> Path:
        """Keep the other side of a conflict beside the mask's state.

        Args:
            photo: Of the project.
            body: Patches: all of a mask, or only the strokes to add to the stored one.
            whole: Which of the two.
            name: Part of the file name; letters and digits.
        """
        found = self._decode(photo, body)
        with self._locks[photo.id]:
            stored = self._load(photo)
            ids = np.zeros_like(stored.ids) if whole else stored.ids.copy()
            patches.apply(found, ids)
            folder = self._workplace.state / "conflicts"
            stamp = time.strftime("%Y%m%d-%H%M%S")
            stem = f"{photo.key}.conflict-r{stored.revision}-{stamp}-{name}"
            path = folder / f"{stem}.png"
            # Both sides of one conflict may come within a second.
            for number in itertools.count(2):
                if not path.exists():
                    break
                path = folder / f"{stem}-{number}.png"
            write_bytes(path, encode_mask(ids, self._workplace.classes))
        return path

    def _decode(self, photo: Photo, body: bytes) -> list[patches.Patch]:
        return patches.decode(body, width=photo.width, height=photo.height, allowed=self._allowed)

    def _load(self, photo: Photo) -> StoredMask:
        path = self._paths[photo.id]
        try:
            info = path.stat()
        except FileNotFoundError:
            empty = np.zeros((photo.height, photo.width), np.uint8)
            return StoredMask(empty, "", 0, Author())
        except OSError as error:
            raise DataError(f"cannot read the mask of {photo.key}: {error.strerror}") from error
        mark = (info.st_mtime_ns, info.st_size, info.st_ino)
        with self._cache_lock:
            held = self._cache.get(photo.id)
        if held is not None and held[0] == mark:
            return held[1]
        mask = _read(path, photo, self._workplace.classes)
        self._remember(photo, mark, mask)
        return mask

    def _write(self, photo: Photo, ids: np.ndarray, revision: int, author: Author) -> StoredMask:
        text = json.dumps({"revision": revision, **author.__dict__})
        content = encode_mask(ids, self._workplace.classes, text=text)
        path = self._paths[photo.id]
        write_bytes(path, content)
        info = path.stat()
        mask = StoredMask(ids, _version(content), revision, author)
        self._remember(photo, (info.st_mtime_ns, info.st_size, info.st_ino), mask)
        return mask

    def _remember(self, photo: Photo, mark: tuple[int, ...], mask: StoredMask) -> None:
        with self._cache_lock:
            self._cache[photo.id] = mark, mask
            self._cache.move_to_end(photo.id)
            while len(self._cache) > 1 and _held_bytes(self._cache) > _KEPT_BYTES:
                self._cache.popitem(last=False)

    def _keep_foreign(self, photo: Photo, current: StoredMask) -> None:
        """Before the first change to a mask that another program wrote, keep a copy of it."""
        if current.revision or not current.version:
            return
        path = self._paths[photo.id]
        backup = self._workplace.state / "originals" / path.relative_to(self._workplace.masks)
        if not backup.exists():
            write_bytes(backup, path.read_bytes())


def encode_mask(ids: np.ndarray, classes: ClassTable, *, text: str = "") -> bytes:
    """The PNG file of ``(H, W)`` uint8 class ids in the colours of the classes.

    Args:
        ids: Values are not checked.
        classes: For the colours.
        text: Stored in a text chunk that other programs ignore.
    """
    image = Image.fromarray(ids)
    image.putpalette(palette(classes))
    info = PngInfo()
    if text:
        info.add_text(_CHUNK, text)
    stream = io.BytesIO()
    # Level 3 takes half the time of the default and 5 % more room on masks of cracks.
    image.save(stream, format="PNG", bits=8, pnginfo=info, compress_level=3)
    return stream.getvalue()


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    with opened_image(path, max_pixels=MAX_LABELLED_PIXELS) as image:
        yield image


def _read(path: Path, photo: Photo, classes: ClassTable) -> StoredMask:
    ids = read_mask(path, classes, size=(photo.width, photo.height), max_pixels=MAX_LABELLED_PIXELS)
    with _open(path) as image:
        revision, author = _parse(image.info.get(_CHUNK))
    return StoredMask(ids, _version(path.read_bytes()), revision, author)


def _parse(text: object) -> tuple[int, Author]:
    try:
        value = json.loads(str(text))
        author = Author(str(value["session"]), int(value["seq"]), str(value["parent"]))
        return int(value["revision"]), author
    except (ValueError, KeyError, TypeError):  # written by another program
        return 0, Author()


def _version(content: bytes) -> str:
    return sha256_bytes(content)[:24]


def _held_bytes(cache: OrderedDict[str, tuple[tuple[int, ...], StoredMask]]) -> int:
    return sum(mask.ids.nbytes for _, mask in cache.values())
