"""HDF5 files from strangers: everything in them is checked before any of it is read.

HDF5 reads other files by design: external links, external storage and virtual datasets name them.
A dataset may also claim terabytes that are not there. h5py shows all of that without following
anything, so the whole file is walked first, link by link, and refused by the name of the part.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t, h5z

from finicky.errors import DataError, UnsupportedModelError

MAX_LINKS = 100_000
MAX_DEPTH = 64
MAX_ATTRIBUTE_BYTES = 16 << 20
MAX_ATTRIBUTES = 1_000
MAX_DATASET_BYTES = 4 << 30
MAX_TEXT_BYTES = 16 << 20
# The filters that HDF5 and h5py bring; any other would be loaded from a plug-in. deflate packs
# about 1000 to 1 at most.
_FILTERS = {
    h5z.FILTER_DEFLATE: "gzip",
    h5z.FILTER_SHUFFLE: "shuffle",
    h5z.FILTER_FLETCHER32: "fletcher32",
    h5z.FILTER_LZF: "lzf",
}
_PACKING = 1_100
_NUMBERS = (h5t.INTEGER, h5t.FLOAT)


@dataclass
class SafeFile:
    """An HDF5 file that was walked; ``groups`` and ``datasets`` are all that is in it.

    Attributes:
        name: The file's, for messages.
        datasets: Full names, as ``layers/conv2d/vars/0``, to shape and NumPy type.
        groups: Full names, "" being the root, to the names of their attributes.
    """

    name: str
    handle: h5py.File
    datasets: dict[str, tuple[tuple[int, ...], np.dtype]] = field(default_factory=dict)
    groups: dict[str, frozenset[str]] = field(default_factory=dict)

    def array(self, name: str) -> np.ndarray:
        """One dataset, whole."""
        with _damage_is_ours(self.name, name):
            return np.asarray(self.handle[name][()])

    def texts(self, group: str, attribute: str) -> list[str]:
        """An attribute that holds one text or a row of them, as a list."""
        with _damage_is_ours(self.name, f"attribute {attribute} of {group or '/'}"):
            value = self.handle["/" + group].attrs[attribute]
            rows = [value] if isinstance(value, (str, bytes)) else list(np.ravel(value))
            return [_text(row) for row in rows]

    def has_texts(self, group: str, attribute: str) -> bool:
        """Whether a group is there and has that attribute."""
        return attribute in self.groups.get(group, ())


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}")
    if len(value) > MAX_TEXT_BYTES:
        raise ValueError(f"{len(value):,} characters of text, at most {MAX_TEXT_BYTES:,} are read")
    return value


@contextmanager
def open_checked(source: Path | IO[bytes], name: str) -> Iterator[SafeFile]:
    """Open an HDF5 file for reading after a walk through all of it.

    Args:
        source: A path, or the bytes as a seekable stream.
        name: What messages call the file.

    Raises:
        DataError: It is damaged, or no HDF5 file.
        UnsupportedModelError: It points outside itself, or claims more than it holds; the message
            names the part.
    """
    _check_library()
    with _damage_is_ours(name, "its structure"):
        handle = h5py.File(source, "r")
    with handle:
        safe = SafeFile(name, handle)
        with _damage_is_ours(name, "its structure"):
            _walk(safe)
        yield safe


def _check_library() -> None:
    if h5py.version.hdf5_version_tuple[0] < 2:
        warnings.warn(
            f"h5py was built with HDF5 {h5py.version.hdf5_version}, whose reader has known "
            "crashes on hostile files; use h5py with HDF5 2.0 or newer for files from strangers",
            UserWarning,
            stacklevel=4,
        )


@contextmanager
def _damage_is_ours(name: str, part: str) -> Iterator[None]:
    """HDF5 raises whatever a crafted file provokes; all of it becomes one `DataError`."""
    try:
        yield
    except (DataError, UnsupportedModelError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error)
        raise DataError(
            f"{name} is damaged or no HDF5 file: {part} cannot be read ({reason})"
        ) from error


def _walk(safe: SafeFile) -> None:
    """Visit every link without following any but plain ones; check what they lead to."""
    root = h5g.open(safe.handle.id, b"/")
    seen = {_address(root)}
    _note_group(safe, "", root)
    waiting: list[tuple[str, h5g.GroupID, int]] = [("", root, 0)]
    links = 0
    while waiting:
        prefix, group, depth = waiting.pop()
        for raw in _link_names(safe, group):
            links += 1
            name = prefix + _plain(raw)
            if links > MAX_LINKS:
                raise _refused(safe, name, f"the file has more than {MAX_LINKS:,} links")
            if depth >= MAX_DEPTH:
                raise _refused(safe, name, f"groups are nested more than {MAX_DEPTH} deep")
            _check_link(safe, name, group.links.get_info(raw))
            found = h5o.open(group, raw)
            if _address(found) in seen:
                raise _refused(safe, name, "it is a second link to something (a loop)")
            seen.add(_address(found))
            if isinstance(found, h5g.GroupID):
                _note_group(safe, name, found)
                waiting.append((name + "/", found, depth + 1))
            elif isinstance(found, h5d.DatasetID):
                _note_dataset(safe, name, found)
            else:
                raise _refused(safe, name, "it is neither a group nor a dataset")


def _link_names(safe: SafeFile, group: h5g.GroupID) -> list[bytes]:
    if group.get_num_objs() > MAX_LINKS:
        raise _refused(safe, "a group", f"it has more than {MAX_LINKS:,} links")
    return list(group)


def _plain(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _address(found: h5py.h5g.GroupID) -> tuple[int, int]:
    info = h5o.get_info(found)
    return info.fileno, info.addr


def _check_link(safe: SafeFile, name: str, info: h5l.LinkInfo) -> None:
    kinds = {
        h5l.TYPE_SOFT: "a soft link",
        h5l.TYPE_EXTERNAL: "an external link, which reads another file",
    }
    if info.type != h5l.TYPE_HARD:
        raise _refused(safe, name, f"it is {kinds.get(info.type, 'a user-defined link')}")


def _note_group(safe: SafeFile, name: str, group: h5g.GroupID) -> None:
    safe.groups[name] = _attributes(safe, name, group)


def _note_dataset(safe: SafeFile, name: str, data: h5d.DatasetID) -> None:
    """Refuse what a Keras file never holds: before the size is asked for, and before any read."""
    layout = data.get_create_plist()
    if layout.get_layout() == h5d.VIRTUAL:
        raise _refused(safe, name, "it is a virtual dataset, which reads other files")
    if layout.get_external_count():
        raise _refused(safe, name, "its storage is external, in another file")
    _attributes(safe, name, data)
    kind = data.get_type()
    if kind.get_class() not in _NUMBERS or kind.get_size() > 16:
        raise _refused(safe, name, f"it holds {_type_name(kind)}, weights are numbers")
    for number in range(layout.get_nfilters()):
        code = layout.get_filter(number)[0]
        if code not in _FILTERS:
            raise _refused(safe, name, f"it needs HDF5 filter {code}, which is not allowed")
    _check_storage(safe, name, data, layout.get_nfilters() > 0)
    safe.datasets[name] = (tuple(int(n) for n in data.shape), np.dtype(data.dtype))


def _check_storage(safe: SafeFile, name: str, data: h5d.DatasetID, packed: bool) -> None:
    space = data.get_space()
    if space.get_simple_extent_type() == h5s.NULL:
        raise _refused(safe, name, "it is empty")
    claimed, kept = data.get_type().get_size(), data.get_storage_size()
    for length in data.shape:  # Python's integers: no overflow, however large the claim
        claimed *= int(length)
    if claimed > MAX_DATASET_BYTES:
        raise _refused(safe, name, f"it claims {claimed:,} bytes, at most 4 GiB are read")
    if claimed > kept * (_PACKING if packed else 1):
        raise _refused(safe, name, f"it claims {claimed:,} bytes and stores {kept:,}")


def _attributes(safe: SafeFile, name: str, found: h5g.GroupID) -> frozenset[str]:
    """The attributes' names, each of a kind and size that a Keras file may have."""
    where = name or "/"
    count = h5a.get_num_attrs(found)
    if count > MAX_ATTRIBUTES:
        raise _refused(safe, where, f"it has {count:,} attributes")
    names = []
    for number in range(count):
        attribute = h5a.open(found, index=number)
        label = _plain(attribute.name)
        _check_attribute(safe, f"attribute {label} of {where}", attribute)
        names.append(label)
    return frozenset(names)


def _check_attribute(safe: SafeFile, name: str, attribute: h5a.AttrID) -> None:
    kind = attribute.get_type()
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM):
        raise _refused(safe, name, f"it holds {_type_name(kind)}")
    size = kind.get_size()
    for length in attribute.shape:
        size *= int(length)
    if size > MAX_ATTRIBUTE_BYTES:
        raise _refused(safe, name, f"it has {size:,} bytes, at most {MAX_ATTRIBUTE_BYTES:,}")


def _type_name(kind: h5t.TypeID) -> str:
    names = {
        h5t.VLEN: "variable-length rows",
        h5t.STRING: "text",
        h5t.COMPOUND: "records",
        h5t.REFERENCE: "references",
        h5t.OPAQUE: "opaque bytes",
        h5t.ENUM: "an enumeration",
        h5t.ARRAY: "arrays",
    }
    return names.get(kind.get_class(), "a type of its own")


def _refused(safe: SafeFile, name: str, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{safe.name}: {name[:120]!r} is refused: {why}. A plain file that Keras wrote has none"
    )
