"""Finicky: keep only the filters that look at what matters."""

from finicky._version import __version__

__all__ = ["__version__"]
