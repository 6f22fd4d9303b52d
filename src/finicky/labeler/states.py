"""What is known of a photo besides its mask: status and note, one small JSON file each."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from finicky._version import __version__
from finicky.errors import DataError, UsageError
from finicky.files import read_json, sha256_file, write_json
from finicky.labeler.workplace import Photo, Workplace

Status = Literal["todo", "in_progress", "done", "skipped"]
MAX_NOTE = 4000


@dataclass(frozen=True)
class PhotoState:
    """``status`` says how far the photo is, ``note`` is the inspector's own text."""

    status: Status = "todo"
    note: str = ""


class States:
    """Reads and writes ``state/<key>.json``; safe to call from several threads."""

    def __init__(self, workplace: Workplace) -> None:
        self._folder = workplace.state / "photos"
        self._lock = threading.Lock()
        self._held: dict[str, PhotoState] = {}

    def get(self, photo: Photo) -> PhotoState:
        """The state of a photo; one whose file is missing or damaged is still to do."""
        with self._lock:
            if photo.id not in self._held:
                self._held[photo.id] = self._read(photo)
            return self._held[photo.id]

    def update(
        self, photo: Photo, *, status: str | None = None, note: str | None = None
    ) -> PhotoState:
        """Change status, note or both.

        Raises:
            UsageError: An unknown status, or a note that is too long.
            DataError: The file cannot be written.
        """
        if status is not None and status not in get_args(Status):
            raise UsageError(f"status must be one of {get_args(Status)}, got {status!r:.40}")
        if note is not None and len(note) > MAX_NOTE:
            raise UsageError(f"a note holds at most {MAX_NOTE} characters, got {len(note)}")
        changes = {k: v for k, v in (("status", status), ("note", note)) if v is not None}
        state = replace(self.get(photo), **changes)  # type: ignore[arg-type]
        with self._lock:
            if state != self._held.get(photo.id):
                self._write(photo, state)
                self._held[photo.id] = state
        return state

    def _read(self, photo: Photo) -> PhotoState:
        try:
            value = read_json(self._folder / f"{photo.key}.json")
            status: Status = value["status"] if value["status"] in get_args(Status) else "todo"
            return PhotoState(status, str(value["note"]))
        except (DataError, KeyError, TypeError):
            return PhotoState()

    def _write(self, photo: Photo, state: PhotoState) -> None:
        record = {
            "format": 1,
            "photo": photo.key,
            "sha256": sha256_file(photo.path),
            "width": photo.width,
            "height": photo.height,
            **asdict(state),
            "updated": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "tool": f"finicky {__version__}",
        }
        write_json(self._folder / f"{photo.key}.json", record)
