"""Which photos are meant: a file, a folder, a pattern or a list; each gets one row of results."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finicky.errors import DataError, UsageError
from finicky.images import IMAGE_SUFFIXES, printable


@dataclass(frozen=True)
class Source:
    """A file to look at.

    Attributes:
        path: Where it lies.
        key: Its path relative to what was given, with ``/``; names its results.
        skipped: Why it is not even tried; empty for photos.
        failed: Whether that counts as a failure: it was meant to be looked at, and cannot be.
    """

    path: Path
    key: str
    skipped: str = ""
    failed: bool = False


def find_photos(
    given: Sequence[str | Path], *, recursive: bool = True, leave_out: Path | None = None
) -> list[Source]:
    """All files meant by ``given``, each once, sorted by key.

    Args:
        given: Files, folders, patterns as ``photos/*.jpg``, or ``@list.txt`` with a path a line
            (relative to the list's folder).
        recursive: Look into folders below folders.
        leave_out: A folder whose files do not count: that of the results.

    Raises:
        UsageError: Something named is not there.
        DataError: A folder or list cannot be read.
    """
    out = leave_out.resolve() if leave_out is not None else None
    found: dict[Path, Source] = {}
    several = len(given) > 1
    roots = [Path(_fixed(str(entry))) for entry in given]
    base = _common(roots) if several else None
    for entry in given:
        for source in _of(entry, recursive, out):
            if base is not None:
                source = replace(source, key=_relative(source.path, base))
            found.setdefault(source.path, source)
    sources = sorted(found.values(), key=lambda source: source.key)
    if not any(not source.skipped for source in sources):
        shown = ", ".join(printable(Path(str(entry))) for entry in given)
        raise UsageError(
            f"no photo found in {shown}: looked for files ending in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}."
            + ("" if recursive else " Folders below it were not looked into (--recursive).")
        )
    return _unique(sources)


def _of(entry: str | Path, recursive: bool, out: Path | None) -> Iterator[Source]:
    text = str(entry)
    path = Path(text)
    if text.startswith("@") and not os.path.lexists(text):
        yield from _listed(Path(text[1:]))
    elif path.is_dir():
        yield from _folder(path, recursive, out)
    elif os.path.lexists(text):
        yield Source(path, path.name)
    elif glob.has_magic(text):
        base = Path(_fixed(text))
        for name in sorted(glob.glob(text, recursive=True)):  # noqa: PTH207 (absolute patterns)
            if not Path(name).is_dir() and not (out and Path(name).absolute().is_relative_to(out)):
                yield Source(Path(name), _relative(Path(name), base))
    else:
        raise UsageError(
            f"{printable(path)} is not there: give a photo, a folder, a pattern in quotes or "
            "@list.txt"
        )


def _listed(path: Path) -> Iterator[Source]:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"cannot read the list {printable(path)}: {error.strerror}.") from error
    lines = [line.strip() for line in text.splitlines()]
    paths = [path.parent / line for line in lines if line and not line.startswith("#")]
    base = _common([p.parent for p in paths]) if paths else path.parent
    for entry in paths:
        yield Source(entry, _relative(entry, base))


def _folder(folder: Path, recursive: bool, out: Path | None) -> Iterator[Source]:
    root = folder.resolve()

    def stop(error: OSError) -> None:
        raise DataError(
            f"cannot list {printable(Path(error.filename))}: {error.strerror}. Check its rights."
        ) from error

    for parent, folders, files in os.walk(folder, onerror=stop):
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        below = [name for name in folders if name not in linked and not name.startswith(".")]
        folders[:] = [name for name in below if recursive and Path(parent, name).resolve() != out]
        for name in (*files, *(n for n in linked if Path(n).suffix.lower() in IMAGE_SUFFIXES)):
            path = Path(parent, name)
            yield _found(path, _relative(path, folder), root)


def _found(path: Path, key: str, root: Path) -> Source:
    if path.name.startswith("."):
        return Source(path, key, "a hidden file")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return Source(path, key, "not a photo by its name")
    broken = _broken_link(path, root) if path.is_symlink() else ""
    return Source(path, key, broken, failed=bool(broken))


def _broken_link(path: Path, root: Path) -> str:
    try:
        inside = path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return "a link that leads nowhere"
    return "" if inside else "a link that leads out of the folder"


def _fixed(text: str) -> str:
    """The part of a pattern before its first special character; of a file, its folder."""
    path = Path(text.removeprefix("@"))
    if glob.has_magic(text) and not os.path.lexists(text):
        parts: list[str] = []
        for part in path.parts[:-1]:
            if glob.has_magic(part):
                break
            parts.append(part)
        return str(Path(*parts)) if parts else "."
    return str(path if path.is_dir() else path.parent)


def _common(folders: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath([f.absolute() for f in folders]))
    except ValueError:  # other drives
        return Path(os.sep)


def _relative(path: Path, base: Path) -> str:
    full, root = (Path(os.path.normpath(p.absolute())) for p in (path, base))
    try:
        return full.relative_to(root).as_posix()
    except ValueError:
        return full.as_posix().replace(":", "").lstrip("/")


def _unique(sources: list[Source]) -> list[Source]:
    keys: dict[str, Path] = {}
    for source in sources:
        if keys.setdefault(source.key, source.path) != source.path:
            raise UsageError(
                f"{printable(keys[source.key])} and {printable(source.path)} would have the same "
                f"results, {source.key!r}: give the folder that holds both"
            )
    return sources
