"""Packages that the base install does not bring, and what brings them."""

from __future__ import annotations

import re
from collections.abc import Iterable

DISTRIBUTION = "finicky-transfer-learning"
# Packages that are imported under another name than they are installed under.
_IMPORTED = {"scikit_learn": "sklearn", "scikit_image": "skimage"}


def missing(name: str | None) -> str | None:
    """One line for a package of an extra that is not installed; ``None`` for any other name."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # run from a folder of sources
        return None
    package = (name or "").partition(".")[0]
    extra = extras_of(declared).get(package)
    if extra is None:
        return None
    return (
        f"this command needs {package}, which the base install does not bring: "
        f"pip install '{DISTRIBUTION}[{extra}]'"
    )


def extras_of(declared: Iterable[str]) -> dict[str, str]:
    """The first extra that brings each package, by the name under which it is imported.

    Args:
        declared: As a package's metadata has them, ``torch>=2.10; extra == 'train'``.
    """
    found: dict[str, str] = {}
    for entry in declared:
        name = re.match(r"[\w.-]+", entry)
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", entry)
        if name and extra and extra[1] not in ("all", "dev"):
            imported = name[0].lower().replace("-", "_")
            found.setdefault(_IMPORTED.get(imported, imported), extra[1])
    return found
