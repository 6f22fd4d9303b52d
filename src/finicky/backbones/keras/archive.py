"""``.keras`` archives from strangers: read from memory, nothing is ever unpacked to disk."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

from finicky.backbones.keras.trust import MAX_JSON_BYTES
from finicky.errors import DataError, UnsupportedModelError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_MEMBERS = 1_000
MAX_WEIGHTS_BYTES = 4 << 30
# deflate packs 1032 to 1 at most; float weights hardly pack at all.
_PACKING = 100
_SMALL = 1 << 20


def read_archive(path: Path, name: str) -> dict[str, bytes]:
    """The members of a ``.keras`` archive that matter: config, metadata and weights.

    Raises:
        DataError: It is damaged or no archive, or a member is too large.
        UnsupportedModelError: A member is hostile or not understood; the message names it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, name)
            return {m.filename: _read(archive, m, name) for m in members if m.filename in _WANTED}
    except (DataError, UnsupportedModelError, MemoryError):
        raise
    except Exception as error:  # zipfile raises whatever a crafted archive provokes
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason"
        raise DataError(f"{name} is damaged or no .keras archive: {reason}") from error


_WANTED = {
    CONFIG: MAX_JSON_BYTES,
    METADATA: _SMALL,
    WEIGHTS: MAX_WEIGHTS_BYTES,
}


def _check_members(members: list[zipfile.ZipInfo], name: str) -> None:
    if len(members) > MAX_MEMBERS:
        raise _refused(name, "the archive", f"it has {len(members):,} members")
    for filename, count in Counter(m.filename for m in members).items():
        if count > 1:
            raise _refused(name, f"member {filename!r}", f"it is there {count} times")
    for member in members:
        _check_member(member, name)
    names = {m.filename for m in members}
    for wanted in (CONFIG, WEIGHTS):
        if wanted not in names:
            raise UnsupportedModelError(
                f"{name} has no {wanted}: expected an archive as Keras 3 writes it"
            )


def _check_member(member: zipfile.ZipInfo, name: str) -> None:
    what = f"member {member.filename[:80]!r}"
    # orig_filename is what the archive says; filename is what zipfile made of it.
    parts = PurePosixPath(member.orig_filename.replace("\\", "/")).parts
    strange = any(ord(c) < 32 or c in ":\\" for c in member.orig_filename)
    if ".." in parts or member.orig_filename.startswith(("/", "\\")) or strange:
        raise _refused(name, what, "its name leads outside the archive")
    if member.flag_bits & 0x1:
        raise _refused(name, what, "it is encrypted")
    if (member.external_attr >> 16) & 0o170000 == 0o120000:
        raise _refused(name, what, "it is a symbolic link")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refused(name, what, f"it is packed by method {member.compress_type}")
    limit = _WANTED.get(member.filename, MAX_WEIGHTS_BYTES)
    if member.file_size > limit:
        raise _refused(name, what, f"it has {member.file_size:,} bytes, at most {limit:,} are read")
    if member.file_size > max(_PACKING * member.compress_size, _SMALL):
        raise _refused(
            name, what, f"it unpacks {member.compress_size:,} bytes to {member.file_size:,}"
        )


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    with archive.open(member) as stream:
        content = stream.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise DataError(f"{name}: member {member.filename!r} is cut short or longer than it says")
    return content


def _refused(name: str, what: str, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"{name}: {what} is refused: {why}")
