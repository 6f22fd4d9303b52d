"""What other tools pack into a zip, as the folder that was packed."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from finicky.data.formats.record import check_name
from finicky.errors import DataError
from finicky.files import write_bytes

# What any format reads; photos, which some tools pack too, are mostly JPEGs and stay packed.
_SUFFIXES = frozenset({".json", ".xml", ".txt", ".yaml", ".yml", ".png", ".mat", ".tif", ".tiff"})
_MOST_BYTES, _MOST_IN_ALL = 200_000_000, 4_000_000_000


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """The folder in a zip, in a temporary place that bears the zip's name; anything else as it is.

    Raises:
        DataError: The zip is damaged, too large, or holds names that lead out of it.
    """
    if not (source.is_file() and zipfile.is_zipfile(source)):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / source.name
        root.mkdir()
        try:
            with zipfile.ZipFile(source) as archive:
                _unpack(archive, root)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise DataError(f"{source.name} cannot be unpacked: {error}") from error
        yield root


def _unpack(archive: zipfile.ZipFile, root: Path) -> None:
    left = _MOST_IN_ALL
    for info in archive.infolist():
        if info.is_dir():
            continue
        check_name(info.filename)
        path = PurePosixPath(info.filename.replace("\\", "/"))
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
        if hidden or path.suffix.lower() not in _SUFFIXES:
            continue
        left -= info.file_size
        if info.file_size > _MOST_BYTES or left < 0:
            raise DataError(f"{info.filename} in {root.name} is too large")
        with archive.open(info) as stream:
            # A size that lies is cut here, and then told by its checksum.
            write_bytes(root / path, stream.read(info.file_size))
