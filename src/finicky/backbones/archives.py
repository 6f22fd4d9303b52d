"""Zip archives from strangers: what lies in them, once nothing in them can do harm."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from finicky.errors import DataError

# PyTorch writes one member a tensor; the largest networks have some thousand.
_MOST_MEMBERS = 50_000
_ENCRYPTED = 0x1


class Archive:
    """A zip archive that is stored uncompressed, as PyTorch's are; members by name.

    Nothing is ever extracted. What PyTorch never writes is refused by the member's name: links,
    paths that lead elsewhere, names that occur twice, compression, encryption, members that take
    more room than the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is no archive that can be read, or is cut off") from error
        try:
            self.members = {info.filename: info for info in self._zip.infolist()}
            self._check(path.stat().st_size)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    @property
    def root(self) -> str:
        """The one folder that everything lies in."""
        roots = {name.partition("/")[0] for name in self.members}
        if len(roots) != 1:
            raise DataError(f"{self.path} is no archive of PyTorch's: it has {len(roots)} folders")
        return roots.pop()

    def read(self, name: str, most: int | None = None) -> bytes:
        """The content of a member.

        Raises:
            DataError: There is no such member, it is damaged, or larger than ``most`` bytes.
        """
        info = self.members.get(name)
        if info is None:
            raise DataError(f"{self.path} is damaged: it lacks {name!r:.80}")
        if most is not None and info.file_size > most:
            raise DataError(f"{self.path}: {name!r:.80} has {info.file_size:,} bytes: too many")
        try:
            return self._zip.read(info)
        except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as e:
            raise DataError(f"{self.path} is damaged: {name!r:.80} cannot be read") from e

    def _check(self, size: int) -> None:
        infos = self._zip.infolist()
        if len(infos) > _MOST_MEMBERS:
            raise DataError(f"{self.path} has {len(infos):,} members: too many")
        if len(self.members) < len(infos):
            twice = first_twice(info.filename for info in infos)
            raise DataError(f"{self.path} has the member {twice!r:.80} twice")
        # TorchScript compresses its code, which is never read here.
        infos = [info for info in infos if info.filename.split("/")[1:2] != ["code"]]
        for info in infos:
            if reason := _harm(info):
                raise DataError(f"{self.path}: member {info.filename!r:.80} {reason}")
        if sum(info.file_size for info in infos) > size:
            raise DataError(f"{self.path} is hostile: its members take more room than the file")


def first_twice(names: Iterable[str]) -> str:
    """The first of those that occur more than once; there is one."""
    counts = Counter(names)
    return next(name for name, count in counts.items() if count > 1)


def _harm(info: zipfile.ZipInfo) -> str:
    name = info.filename
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        return "leads out of the archive"
    mode = info.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or no plain file"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type != zipfile.ZIP_STORED:
        return "is compressed, as PyTorch never does"
    if info.file_size != info.compress_size:
        return "says two sizes"
    return ""
