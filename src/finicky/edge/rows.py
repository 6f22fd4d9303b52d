"""What was found on a photo as rows of the two tables."""

from __future__ import annotations

from typing import Any

from finicky.edge.bundle import Target
from finicky.edge.inspect import Inspected
from finicky.edge.places import Georeference


def summary_row(key: str, found: Inspected, seconds: float) -> list[Any]:
    """A row of ``summary.csv``."""
    place = found.place
    size = (place.width, place.height, place.tiles, round(seconds, 3))
    measures = (len(found.regions), found.area_px, found.area_pct, found.max_score)
    return [key, *size, *measures, "ok", ""]


def defect_row(
    key: str,
    found: Inspected,
    k: int,
    target: Target,
    mm_per_px: float | None,
    grid: Georeference | None = None,
) -> list[Any]:
    """The row of region ``k`` in ``defects.csv``; ``None`` where nothing is known."""
    region = found.regions[k]
    length, width = region.length_px, region.mean_width_px
    x, y = region.x + region.width / 2, region.y + region.height / 2
    north, east = (grid.latitude_longitude(x, y) if grid else None) or (None, None)
    return [
        key,
        k + 1,
        target.name,
        round(region.score_mean, 4),
        round(region.score_max, 4),
        region.x,
        region.y,
        region.width,
        region.height,
        region.area_px,
        round(length, 1),
        round(width, 1),
        None if mm_per_px is None else round(length * mm_per_px, 2),
        None if mm_per_px is None else round(width * mm_per_px, 3),
        None if north is None else round(north, 8),
        None if east is None else round(east, 8),
        round(region.orientation_deg, 1),
    ]
