"""Division into train, validation and test, always by group.

A group is one source photograph, or one set of near duplicates: its parts never fall into two
splits. Membership follows from SHA-256 of seed and group name, so it is the same on every
platform and does not depend on the order of the groups.
"""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from finicky.errors import DataError, UsageError, nearest_names
from finicky.images import printable

Split = Literal["train", "validation", "test"]
Assignment = tuple[Split, str]  # split and group of one image

SPLITS: tuple[Split, ...] = get_args(Split)
VALIDATION_FRACTION = 0.25


def split_groups(
    groups: Iterable[str],
    *,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    strata: Mapping[str, str] | None = None,
) -> dict[str, Split]:
    """Divide groups into train, validation and test.

    Args:
        groups: Names; repeated ones count once.
        fractions: Shares of train, validation and test, each at least 0, together 1. A split of
            share 0 stays empty; every other one gets at least one group.
        seed: Another seed gives another division.
        strata: A stratum for each group, such as its class. Each stratum is divided by itself
            and, if it has enough groups, is in every split.

    Returns:
        The split of each group, in order of the names.

    Raises:
        UsageError: The fractions are impossible.
        DataError: There are fewer groups than splits to fill.
    """
    names = sorted(set(groups))
    shares = _shares(fractions)
    if len(names) < len(shares):
        raise DataError(
            f"{len(names)} photos (or groups of photos) cannot be divided into {len(shares)} "
            f"splits ({', '.join(shares)}): add photos, at least {len(shares)} are needed."
        )
    by_stratum = defaultdict(list)
    for name in sorted(names, key=lambda name: _draw(seed, name)):
        by_stratum[strata[name] if strata else ""].append(name)
    found: dict[str, Split] = {}
    few: list[str] = []
    for stratum in sorted(by_stratum):
        members = by_stratum[stratum]
        if len(members) < len(shares):
            few += members
        else:
            found |= zip(members, _in_turn(_quotas(len(members), shares)), strict=True)
    for name in few:
        found[name] = _neediest(list(found.values()), shares)
    return {name: found[name] for name in names}


def carve_validation(
    assignments: Mapping[str, Assignment],
    *,
    fraction: float = VALIDATION_FRACTION,
    seed: int = 0,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Assignment]:
    """Move a share of the training groups to validation; nothing where validation has some.

    Args:
        assignments: Split and group of each image key.
        fraction: Share of the training groups, in (0, 1); at least one group moves, one stays.
        seed: Which groups.
        labels: A class for each image key; the classes are then divided one by one. A group of
            several classes counts for that of its first key in sorted order.

    Raises:
        DataError: The training split has fewer than two groups.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the validation fraction must be between 0 and 1, got {fraction}")
    if any(split == "validation" for split, _ in assignments.values()):
        return dict(assignments)
    first: dict[str, str] = {}
    for key in sorted(assignments):
        split, group = assignments[key]
        if split == "train":
            first.setdefault(group, key)
    if len(first) < 2:
        raise DataError(
            f"the training split has {len(first)} group(s) of photos; validation is cut out of "
            "it, which takes at least 2. Add training photos, or rows of split validation."
        )
    strata = {group: labels[key] for group, key in first.items()} if labels else None
    parts = split_groups(first, fractions=(1 - fraction, fraction, 0), seed=seed, strata=strata)
    return {
        key: (parts[group] if split == "train" else split, group)
        for key, (split, group) in assignments.items()
    }


def read_split_csv(path: Path) -> dict[str, Assignment]:
    """Split and group of each image, from a table with the columns image, split and group.

    ``image`` is the path relative to the photos folder; ``\\`` counts as ``/`` and accents are
    composed (NFC), as in the keys of photos. Without the column ``group``, or where it is empty,
    each image is its own group. Commas or semicolons separate, UTF-8.

    Raises:
        DataError: The file is missing or has a fault; the message gives its line.
    """
    path = Path(path)
    found: dict[str, Assignment] = {}
    seen: dict[str, tuple[Split, int]] = {}
    for line, row in _rows(path):
        key = image_key(row["image"])
        split = _split(path, line, row["split"])
        group = row.get("group") or key
        if not key or key in found:
            reason = f"lists {key} twice" if key else "names no image"
            raise DataError(f"{printable(path)}, line {line} {reason}. Keep one row an image.")
        other, where = seen.setdefault(group, (split, line))
        if other != split:
            raise DataError(
                f"{printable(path)}, line {line}: group {group!r} is in {split}, but in {other} "
                f"on line {where}. All images of a group must be in one split."
            )
        found[key] = (split, group)
    if not found:
        raise DataError(f"{printable(path)} lists no image. Add rows of image,split,group.")
    return found


def image_key(relative: str) -> str:
    """The key of a photo from its relative path: ``/`` between folders, accents composed."""
    return unicodedata.normalize("NFC", relative.strip().replace("\\", "/"))


def _shares(fractions: Sequence[float]) -> dict[Split, float]:
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(
            f"fractions must be three numbers of at least 0 that add up to 1, got {fractions}"
        )
    return {split: share for split, share in zip(SPLITS, fractions, strict=True) if share > 0}


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\n{name}".encode("utf-8", "surrogateescape")).hexdigest()


def _quotas(count: int, shares: Mapping[Split, float]) -> dict[Split, int]:
    """Whole numbers near ``count`` x share (largest remainder), each at least 1."""
    quotas = {split: max(1, int(share * count)) for split, share in shares.items()}
    while (missing := count - sum(quotas.values())) != 0:
        step = 1 if missing > 0 else -1
        movable = [split for split in quotas if quotas[split] + step >= 1]
        chosen = max(movable, key=lambda split: step * (shares[split] * count - quotas[split]))
        quotas[chosen] += step
    return quotas


def _in_turn(quotas: Mapping[Split, int]) -> list[Split]:
    return [split for split, number in quotas.items() for _ in range(number)]


def _neediest(taken: Sequence[Split], shares: Mapping[Split, float]) -> Split:
    """An empty split if there is one, else the one that lacks most for its share."""

    def lack(split: Split) -> tuple[bool, float]:
        held = taken.count(split)
        return held == 0, shares[split] * (len(taken) + 1) - held

    return max(shares, key=lack)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {printable(path)}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(path)} is not UTF-8 text. Save it as CSV UTF-8.") from error
    head = text.partition("\n")[0]
    delimiter = ";" if ";" in head and "," not in head else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [name.strip().lower() for name in reader.fieldnames or []]
    if not {"image", "split"} <= set(names):
        raise DataError(
            f"{printable(path)}, line 1: expected the columns image, split and group, got "
            f"{', '.join(names) or 'nothing'}."
        )
    reader.fieldnames = names
    return [
        (reader.line_num, {name: (row[name] or "").strip() for name in names}) for row in reader
    ]


def _split(path: Path, line: int, name: str) -> Split:
    for split in SPLITS:
        if name == split:
            return split
    raise DataError(
        f"{printable(path)}, line {line}: no split named {name!r}. {nearest_names(name, SPLITS)}"
    )
