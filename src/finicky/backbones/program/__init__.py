"""PyTorch's exported programs (``.pt2``) as networks of real layers.

``load`` and ``build`` are imported when they are first used: the child process that takes the first
look at a file must not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["build", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("finicky.backbones.program.reader"), name)
    raise AttributeError(f"module 'finicky.backbones.program' has no attribute {name!r}")
