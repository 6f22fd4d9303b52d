"""The page: plain ES modules, served from this fixed list and from nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    content: bytes
    media_type: str


def asset(name: str) -> Asset | None:
    """The file of that name, or ``None``; names are compared, never made into paths."""
    return _assets().get(name)


@cache
def _assets() -> dict[str, Asset]:
    found = {}
    for entry in files(__name__).iterdir():
        suffix = entry.name.rpartition(".")[2]
        if suffix in _TYPES:
            found[entry.name] = Asset(entry.read_bytes(), _TYPES[suffix])
    return found
