"""How a sweep came upon its candidates, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from finicky.errors import DataError
from finicky.files import read_json
from finicky.report import wording as w
from finicky.sweep.folder import SEARCH


def looked_at(root: Path) -> set[float]:
    """Keep ratios that a search looked at, glances included; empty where there was no search.

    Raises:
        DataError: ``search.json`` is damaged.
    """
    path = root / SEARCH
    if not path.is_file():
        return set()
    try:
        return {float(seen["keep_ratio"]) for seen in read_json(path)["seen"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}. Run the sweep again") from error


def search_words(root: Path) -> Iterator[tuple[str, str]]:
    """Label and text of each line; nothing where all candidates were asked for by name.

    Raises:
        DataError: ``search.json`` is damaged.
    """
    path = root / SEARCH
    if not path.is_file():
        return
    told = read_json(path)
    try:
        counts = Counter(float(seen["share"]) for seen in told["seen"])
        steps = [
            (str(s["why"]), float(s["share"]), [float(r) for r in s["ratios"]])
            for s in told["steps"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}. Run the sweep again") from error
    glances = "; ".join(
        f"{number} glances at {w.keep_percent(share)} of the training photographs"
        for share, number in sorted(counts.items())
        if share < 1
    )
    yield (
        "Search",
        f"not every keep ratio was evaluated: {glances}; {counts[1.0]} networks in full, the "
        "unpruned one among them. Glances saw validation photos only. It ended because "
        f"{steps[-1][0]}",
    )
    trail = (
        f"{'in full' if share == 1 else w.keep_percent(share)}: "
        f"{', '.join(f'{ratio:g}' for ratio in ratios)} ({why})"
        for why, share, ratios in steps
        if ratios
    )
    yield "Search, step by step", "; ".join(trail)
