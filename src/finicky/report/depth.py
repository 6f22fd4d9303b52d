"""In words: at which depth the network sees the target, and whether it needs a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finicky.files import read_json
from finicky.sweep.folder import DEPTH


def depth_lines(root: Path, chosen: Mapping[str, Any], full: Mapping[str, Any]) -> list[str]:
    """What a run's look at depth says to its reader; empty where it says nothing new.

    Args:
        root: The run folder.
        chosen: The chosen candidate's row.
        full: The unpruned network's row.
    """
    path = root / DEPTH
    if not path.is_file():
        return []
    seen = read_json(path)
    return [*_texture(seen, chosen, full), *_ends(seen, chosen)]


def _texture(
    seen: Mapping[str, Any], chosen: Mapping[str, Any], full: Mapping[str, Any]
) -> Iterator[str]:
    plain = seen.get("texture_val_balanced_accuracy")
    network = max(float(row["val_balanced_accuracy"] or 0) for row in (chosen, full))
    if plain is not None and plain >= network:
        yield (
            f"intensity and texture statistics of a tile alone reach balanced accuracy {plain:.3f} "
            f"on validation, the networks {network:.3f}: this target is merely dark, bright or "
            "rough, and may need no network (look at finicky compare with texture)"
        )


def _ends(seen: Mapping[str, Any], chosen: Mapping[str, Any]) -> Iterator[str]:
    stages = seen["stages"]
    if not stages:
        return
    by_layer = {stage["layer"]: stage["balanced_accuracy"] for stage in stages}
    last = stages[-1]
    found = ", ".join(f"{by_layer[n]:.3f} after {n}" for n in seen["promising"])
    if found and not chosen["depth"]:
        yield (
            f"depth: unpruned features tell training tiles apart with balanced accuracy "
            f"{last['balanced_accuracy']:.3f} after the last layer, {found} (on photos that the "
            "head did not see): --depth auto tries networks that end there"
        )
