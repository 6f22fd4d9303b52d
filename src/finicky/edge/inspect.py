"""One photo through a bundle: the middle of it all, without files."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from finicky.edge.bundle import Bundle
from finicky.edge.photos import Photo
from finicky.edge.regions import Region, find_regions
from finicky.edge.scan import Merge, Plan, plan, scan
from finicky.errors import UsageError, nearest_names
from finicky.flatness import restore_probabilities

# Of a photo's map: more take gigabytes while regions are measured.
MOST_CELLS = 25_000_000


@dataclass(frozen=True)
class InspectSettings:
    """What the result of a photo depends on besides the bundle.

    Attributes:
        overlap: ``0.5`` (share of a tile), ``"32px"``; ``None``: the bundle's.
        high: A region must reach this probability somewhere; ``None``: the bundle's.
        low: And this everywhere; ``None``: the bundle's, in proportion where ``high`` is given.
        min_area: Smallest region in px; ``None``: the bundle's.
        merge: How overlapping tiles are weighted.
        use_map: Use the bundle's map where it has one.
    """

    overlap: str | float | None = None
    high: float | None = None
    low: float | None = None
    min_area: float | None = None
    merge: Merge = "gaussian"
    use_map: bool = True


@dataclass(frozen=True)
class Inspected:
    """What was found on one photo.

    Attributes:
        place: Where tiles and cells lie.
        scores: ``(rows, columns)`` float32, the probability of each cell.
        labels: ``(rows, columns)`` int32, the region of each cell, 0: none.
        regions: Largest first.
    """

    place: Plan
    scores: np.ndarray
    labels: np.ndarray
    regions: tuple[Region, ...]

    @property
    def area_px(self) -> int:
        """Of all regions."""
        return sum(region.area_px for region in self.regions)

    @property
    def area_pct(self) -> float:
        """Share of the photo that regions cover, in percent with 4 places."""
        return round(100 * self.area_px / (self.place.width * self.place.height), 4)

    @property
    def max_score(self) -> float:
        """The highest probability on the photo, with 4 places."""
        return round(float(self.scores.max()), 4)


@dataclass(frozen=True)
class Rule:
    """The settings made definite for one bundle: stride in px, cell in px, two thresholds."""

    stride: int
    cell: float | None
    high: float
    low: float
    min_area: float
    merge: Merge

    def plan(self, bundle: Bundle, width: int, height: int) -> Plan:
        """Where the tiles of a photo lie; very large photos get coarser cells of the map."""
        cell = self.cell
        if cell is not None:
            cell *= max(1, math.ceil(math.sqrt(width * height / cell**2 / MOST_CELLS)))
        return plan(width, height, tile=bundle.tile_px, stride=self.stride, cell=cell)


def rule_for(bundle: Bundle, settings: InspectSettings = InspectSettings()) -> Rule:
    """Resolve settings against a bundle; what is out of range is a `UsageError`."""
    mapped = settings.use_map and bundle.map_px is not None
    own = bundle.thresholds
    usual_high = own.map_high if mapped and own.map_high is not None else own.tile
    usual_low = own.map_low if mapped and own.map_low is not None else own.tile
    high = usual_high if settings.high is None else settings.high
    low = settings.low if settings.low is not None else usual_low * high / usual_high
    if not 0 < low <= high < 1:
        raise UsageError(
            f"thresholds must be 0 < low <= high < 1, got low {low:g} and high {high:g}"
        )
    area = settings.min_area if settings.min_area is not None else own.min_area_px * mapped
    if area < 0:
        raise UsageError(f"the smallest area must be 0 px or more, got {area:g}")
    if settings.merge not in ("gaussian", "constant"):
        raise UsageError(
            f"no merge named {settings.merge!r}. "
            f"{nearest_names(settings.merge, ('gaussian', 'constant'))}"
        )
    stride = _stride(bundle, settings.overlap)
    cell = bundle.map_px if mapped else None
    return Rule(stride, cell, high, low, area, settings.merge)


def inspect_photo(
    bundle: Bundle,
    photo: Photo | np.ndarray,
    rule: Rule | None = None,
    *,
    pool: ThreadPoolExecutor | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Inspected:
    """Find the defects of one photo.

    Args:
        bundle: From `open_bundle`.
        photo: Opened photo, or ``(H, W, 3)`` uint8 RGB.
        rule: From `rule_for`; the bundle's own by default.
        pool: Runs batches of tiles beside each other.
        stopped: Asked before each batch; when true, `InterruptedError` is raised.
    """
    rule = rule or rule_for(bundle)
    opened = Photo(photo) if isinstance(photo, np.ndarray) else photo
    place = rule.plan(bundle, opened.width, opened.height)
    session = bundle.session(0 if pool is None else 1)
    if rule.cell is None and bundle.map_px is not None:
        session = type(session)(session.inference, session.tile_px, False)
    scores = scan(opened, session, place, pool, merge=rule.merge, stopped=stopped)
    if rule.cell is not None:  # tiles are merged as they are in the file: flat
        scores = restore_probabilities(scores, bundle.thresholds.map_flattened)
    labels, regions = find_regions(
        scores, place, high=rule.high, low=rule.low, min_area=rule.min_area
    )
    return Inspected(place, scores, labels, regions)


def _stride(bundle: Bundle, overlap: str | float | None) -> int:
    value = bundle.overlap if overlap is None else overlap
    text, side = str(value).strip().lower(), bundle.tile_px
    try:
        if text.endswith("px"):
            covered = float(text.removesuffix("px"))
        elif text.endswith("%"):
            covered = side * float(text.removesuffix("%")) / 100
        else:
            covered = side * float(text)
    except ValueError as error:
        raise _bad_overlap(value, side) from error
    if not 0 <= covered < side:
        raise _bad_overlap(value, side)
    return max(1, round(side - covered))


def _bad_overlap(value: object, side: int) -> UsageError:
    return UsageError(
        f"the overlap must be a share in [0, 1) or pixels below the tile's {side} px, as 0.5 or "
        f"32px; got {value!r}"
    )
