"""Regions as GeoJSON: on the map where the file says where it lies, else in pixels, y down."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finicky.edge.bundle import Bundle
from finicky.edge.inspect import Inspected
from finicky.edge.outlines import outlines
from finicky.edge.places import WGS84, Georeference
from finicky.files import atomic_path


def write_geojson(
    path: Path,
    key: str,
    sha256: str,
    found: Inspected,
    bundle: Bundle,
    grid: Georeference | None = None,
) -> None:
    """One feature a region.

    Without a grid, the member ``coordinates`` says that they are pixels. With one, they are those
    of the file's system: longitude and latitude for WGS 84, as RFC 7946 has it; for any other the
    member ``crs`` names it, as GeoJSON had it before and GIS programs read it.
    """
    y, x = found.place.edges()
    rows, columns = y.tolist(), x.tolist()
    features: list[dict[str, Any]] = []
    for region in found.regions:
        top, left = int(np.searchsorted(y, region.y)), int(np.searchsorted(x, region.x))
        bottom = int(np.searchsorted(y, region.y + region.height))
        right = int(np.searchsorted(x, region.x + region.width))
        inside = found.labels[top:bottom, left:right] == region.label
        polygons = [
            [_placed([(columns[left + c], rows[top + r]) for c, r in ring], grid) for ring in rings]
            for rings in outlines(inside)
        ]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "MultiPolygon", "coordinates": polygons},
                "properties": {
                    "class": bundle.target.name,
                    "class_id": bundle.target.id,
                    "score_mean": round(region.score_mean, 4),
                    "score_max": round(region.score_max, 4),
                    "area_px": region.area_px,
                    "length_px": round(region.length_px, 1),
                    "image": key.encode("utf-8", "backslashreplace").decode("utf-8"),
                    "image_sha256": sha256,
                    "tile_px": bundle.tile_px,
                    "model": bundle.name,
                },
            }
        )
    head = json.dumps({"type": "FeatureCollection", **_system(grid)})
    # A feature a line; indented, json takes ten times as long.
    lines = ",\n".join(json.dumps(feature, allow_nan=False) for feature in features)
    with (
        atomic_path(path, durable=False) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as stream,
    ):
        stream.write(f'{head[:-1]}, "features": [\n{lines}\n]}}\n')


def write_points(path: Path, points: Iterable[tuple[float, float, Mapping[str, Any]]]) -> bool:
    """Places of photos in WGS 84 as points, one by one; without any, no file is left there.

    Args:
        path: The file.
        points: Latitude, longitude and properties of each.

    Returns:
        Whether there was any.
    """
    count = 0
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as stream,
    ):
        stream.write('{"type": "FeatureCollection", "features": [')
        for north, east, properties in points:
            point = {"type": "Point", "coordinates": [round(east, 8), round(north, 8)]}
            feature = {"type": "Feature", "geometry": point, "properties": properties}
            stream.write(("," if count else "") + "\n" + json.dumps(feature, ensure_ascii=True))
            count += 1
        stream.write("\n]}\n")
    if not count:
        path.unlink()
    return count > 0


def _placed(ring: list[tuple[int, int]], grid: Georeference | None) -> list[list[float]]:
    """A ring in pixels, or on the map, where outer rings run counter-clockwise (RFC 7946)."""
    if grid is None:
        return [list(corner) for corner in ring]
    # Hundredths of a millimetre, for degrees as for metres.
    digits = 10 if grid.metres is None else 5
    placed = [[round(value, digits) for value in grid.point(*corner)] for corner in ring]
    return placed if grid.mirrored else placed[::-1]


def _system(grid: Georeference | None) -> dict[str, Any]:
    if grid is None:
        return {"coordinates": "pixel-topleft"}
    if grid.epsg == WGS84:
        return {}
    if grid.epsg is None:
        return {"coordinates": "unknown-system-of-the-file"}
    name = f"urn:ogc:def:crs:EPSG::{grid.epsg}"
    return {"crs": {"type": "name", "properties": {"name": name}}}
