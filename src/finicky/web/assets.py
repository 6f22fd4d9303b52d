"""The files of a page: served from a fixed list, and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
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
    """One file of a page."""

    content: bytes
    media_type: str


@cache
def assets_of(package: str) -> Mapping[str, Asset]:
    """All files of a page by name; names are looked up here, never made into paths."""
    found = {}
    for entry in files(package).iterdir():
        suffix = entry.name.rpartition(".")[2]
        if suffix in _TYPES:
            found[entry.name] = Asset(entry.read_bytes(), _TYPES[suffix])
    return found
