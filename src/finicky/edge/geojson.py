"""Regions as GeoJSON: in pixels, with y down, because a photo alone has no place on the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from finicky.edge.bundle import Bundle
from finicky.edge.inspect import Inspected
from finicky.edge.outlines import outlines
from finicky.files import write_json


def write_geojson(path: Path, key: str, sha256: str, found: Inspected, bundle: Bundle) -> None:
    """One feature a region. The member ``coordinates`` says that they are pixels."""
    y, x = found.place.edges()
    features: list[dict[str, Any]] = []
    for region in found.regions:
        top, left = int(np.searchsorted(y, region.y)), int(np.searchsorted(x, region.x))
        bottom = int(np.searchsorted(y, region.y + region.height))
        right = int(np.searchsorted(x, region.x + region.width))
        inside = found.labels[top:bottom, left:right] == region.label
        polygons = [
            [[[int(x[left + c]), int(y[top + r])] for c, r in ring] for ring in polygon]
            for polygon in outlines(inside)
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
    write_json(
        path,
        {"type": "FeatureCollection", "coordinates": "pixel-topleft", "features": features},
    )
