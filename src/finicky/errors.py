"""Every error that Finicky raises on purpose.

One base class, few children. Each message says what was expected, what came and what to do;
the command line prints it as one line and exits with ``exit_code``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FinickyError(Exception):
    """Base of all errors raised on purpose. Exit code 1: the work failed."""

    exit_code = 1


class UsageError(FinickyError, ValueError):
    """An argument is out of range or names something that does not exist. Exit code 2."""

    exit_code = 2


class DataError(FinickyError, ValueError):
    """The files that were given cannot be used as they are."""


class StorageError(DataError):
    """A file could not be written: a full disk, a lost one, or no permission."""


class ImageError(DataError):
    """One image file cannot be read; the message names the file and the reason.

    Attributes:
        what: Failed, as ``cannot read photo.jpg``.
        reason: Such as ``it is empty``.
        remedies: What helps: the first does by itself, others depend on where the file is.
    """

    def __init__(self, what: str, reason: str, *remedies: str) -> None:
        super().__init__(what, reason, *remedies)
        self.what, self.reason, self.remedies = what, reason, remedies

    def __str__(self) -> str:
        return f"{self.what}: {self.account}"

    @property
    def account(self) -> str:
        """Reason and remedies, for where the file is named beside them."""
        advice = ", or ".join(self.remedies)
        return f"{self.reason}. {advice[:1].upper()}{advice[1:]}."


class MaskError(DataError):
    """One mask file cannot be used with its photo or its classes."""


class ShapeError(FinickyError, ValueError):
    """Two arrays that must agree in shape do not."""


class UnsupportedModelError(FinickyError, ValueError):
    """The network is of a kind that the asked-for operation cannot handle correctly."""


class MissingDependencyError(FinickyError, ImportError):
    """A package of an optional extra is not installed; the message names the extra."""


def nearest_names(name: str, known: Iterable[str]) -> str:
    """A clause for the end of an "unknown name" message: the near misses, or all that is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(known)}."
