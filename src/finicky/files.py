"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from finicky.errors import DataError, StorageError

# The key under which a sealed JSON file holds its own hash.
SEAL = "sealed"
_ASKING = threading.Lock()
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it becomes ``path``, durably.

    Temporary file, fsync, rename, fsync of the folder: after a crash at any moment ``path`` holds
    either its old content or all of the new one. On an error the temporary file is removed. Not
    ``durable``, the two fsync are left out: that holds then when the process is killed, but not
    when the power fails.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name[:60]}.", suffix=".tmp", dir=path.parent
        )
    except OSError as error:
        raise unwritable(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            _sync(temporary)
        # mkstemp makes files that only the owner may read; results are meant to be shared.
        with suppress(OSError):
            temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that the file is whole or not there."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with ``\\n`` line ends, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN is refused because other readers refuse it."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or damaged one is a `DataError` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def write_tensors(path: Path, content: bytes) -> None:
    """Write what ``safetensors.*.save`` returns, so that equal tensors make equal files.

    safetensors orders the notes in a file's head anew each time; here they are sorted. Its own
    writing to a path would also report a full disk as an error of another kind.
    """
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    notes = head.pop("__metadata__", None)
    if notes is not None:
        head = {"__metadata__": dict(sorted(notes.items())), **head}
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.write(memoryview(content)[8 + size :])


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` as JSON that vouches for itself: with the hash of all the rest of it."""
    content = {key: item for key, item in value.items() if key != SEAL}
    write_json(path, content | {SEAL: _seal(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote; a `DataError` where any of it has changed since."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get(SEAL) is None:
        raise DataError(f"{path} has no seal")
    content = {key: item for key, item in value.items() if key != SEAL}
    if value[SEAL] != _seal(content):
        raise DataError(f"{path} is not as it was written")
    return content


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what `atomic_path` left in a folder, at any depth, when its process was killed.

    Only for a folder that no other process writes to; returns what was removed.
    """
    found = [p for p in folder.rglob(".*.tmp") if _LEFTOVER.fullmatch(p.name) and p.is_file()]
    for path in found:
        with suppress(OSError):
            path.unlink()
    return found


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in blocks."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of bytes in memory, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _seal(content: dict[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, sort_keys=True)
    return sha256_bytes(text.encode("utf-8"))


def unwritable(path: Path, error: OSError) -> StorageError:
    """What to raise where a file could not be written."""
    return StorageError(
        f"could not write {path}: {error.strerror or error}. Check the folder's free space and "
        "permissions, or choose another"
    )


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is journalled
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    with _ASKING:  # it can only be asked for by setting it, for all threads
        value = os.umask(0)
        os.umask(value)
    return value
