"""The classes that a mask can hold: id, name, colour, key and role.

Ids are fixed by the project file and never renumbered. Id 0 always means "unlabelled".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from finicky.errors import UsageError, nearest_names

Role = Literal["target", "distractor", "background"]

UNLABELLED = 0


@dataclass(frozen=True)
class MaskClass:
    """One class of a mask: ``id`` 1 to 254 is the pixel value, ``role`` what it is evidence for."""

    id: int
    name: str
    color: str
    key: str
    role: Role


class ClassTable(Sequence[MaskClass]):
    """The classes of one project, in id order.

    Raises:
        UsageError: An id or name occurs twice, an id is outside 1 to 254, or no class is a target.
    """

    def __init__(self, classes: Sequence[MaskClass]) -> None:
        self._classes = tuple(sorted(classes, key=lambda c: c.id))
        ids = [c.id for c in self._classes]
        names = [c.name for c in self._classes]
        if len(set(ids)) < len(ids) or len(set(names)) < len(names):
            raise UsageError(f"class ids and names must be unique, got {ids} and {names}")
        if any(not 1 <= i <= 254 for i in ids):
            raise UsageError(f"class ids must be 1 to 254 (0 is unlabelled, 255 ignore), got {ids}")

    def __len__(self) -> int:
        return len(self._classes)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._classes[index]

    def __iter__(self) -> Iterator[MaskClass]:
        return iter(self._classes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassTable) and self._classes == other._classes

    def __hash__(self) -> int:
        return hash(self._classes)

    def named(self, name: str) -> MaskClass:
        """The class of that name; an unknown one is a `UsageError` that lists the nearest."""
        for mask_class in self._classes:
            if mask_class.name == name:
                return mask_class
        raise UsageError(
            f"no class named {name!r}. {nearest_names(name, [c.name for c in self._classes])}"
        )

    def targets(self, names: Sequence[str] | None = None) -> tuple[MaskClass, ...]:
        """The classes whose pixels count as evidence: the named ones, or all of role target."""
        if names:
            return tuple(self.named(name) for name in names)
        found = tuple(c for c in self._classes if c.role == "target")
        if not found:
            raise UsageError("no class has the role target: name one with --target")
        return found


# The four classes and numbers of the original method; colours from Okabe and Ito (2008), which
# stay apart for the common kinds of colour blindness.
DEFAULT_CLASSES = ClassTable(
    [
        MaskClass(1, "crack", "#D55E00", "1", "target"),
        MaskClass(2, "pore", "#0072B2", "2", "distractor"),
        MaskClass(3, "dirt", "#E69F00", "3", "distractor"),
        MaskClass(4, "background", "#009E73", "4", "background"),
    ]
)
