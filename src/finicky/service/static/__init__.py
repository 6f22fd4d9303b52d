"""The page: plain files, served from this fixed list and from nowhere else."""

from __future__ import annotations

from finicky.web.assets import Asset, assets_of


def asset(name: str) -> Asset | None:
    """The file of that name, or ``None``; names are compared, never made into paths."""
    return assets_of(__name__).get(name)
