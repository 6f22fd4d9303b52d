"""Where a photo was taken and how large its pixels are, as far as the file says; no guesses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from finicky.edge.utm import from_utm, is_utm
from finicky.errors import UsageError

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
# What only a camera writes: exposure time, aperture, focal length.
_CAMERA_TAGS = (0x829A, 0x829D, 0x920A)
_PIXEL_SCALE, _TIE_POINT, _TRANSFORM, _GEO_KEYS = 33550, 33922, 34264, 34735
_ORIENTATION = 274
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC, _PROJECTED, _LINEAR_UNIT = 1024, 1025, 2048, 3072, 3076
_USER_DEFINED = 32767
WGS84, WEB_MERCATOR = 4326, 3857
# GeoTIFF 1.1, tables of units: metre, international foot, US survey foot.
_METRES = {9001: 1.0, 9002: 0.3048, 9003: 1200 / 3937}
_EARTH_RADIUS_M = 6_378_137.0
# Coordinates beyond this are of no place, in whatever unit.
_FARTHEST = 1e12
# Pixels that are less square than this have no one scale.
_SQUARE = 1.05


@dataclass(frozen=True)
class Georeference:
    """How pixels of a GeoTIFF become coordinates: ``X = a·x + b·y + c``, ``Y = d·x + e·y + f``.

    Attributes:
        matrix: a, b, c, d, e, f; x and y count from the top left corner of the photo.
        epsg: Code of the reference system; ``None`` where the file names none.
        metres: Of a unit of X and Y on the ground, without a projection's stretching; ``None`` for
            degrees and unknown units.
    """

    matrix: tuple[float, float, float, float, float, float]
    epsg: int | None
    metres: float | None

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Coordinates in the file's system, X first (longitude before latitude)."""
        a, b, c, d, e, f = self.matrix
        return a * x + b * y + c, d * x + e * y + f

    @property
    def mirrored(self) -> bool:
        """Whether a ring that runs clockwise on the photo runs counter-clockwise on the map."""
        a, b, _, d, e, _ = self.matrix
        return a * e - b * d > 0

    def latitude_longitude(self, x: float, y: float) -> tuple[float, float] | None:
        """In WGS 84, for files in it, in UTM on it or in Web Mercator; ``None`` for others."""
        try:
            north, east = self._degrees(*self.point(x, y))
        except (
            OverflowError,
            ValueError,
            ZeroDivisionError,
        ):  # far off the globe, or another system
            return None
        return (north, east) if _on_earth(north, east) else None

    def _degrees(self, east: float, north: float) -> tuple[float, float]:
        if self.epsg is not None and is_utm(self.epsg):
            return from_utm(self.epsg, east, north)
        if self.epsg == WEB_MERCATOR:
            north = math.degrees(math.atan(math.sinh(north / _EARTH_RADIUS_M)))
            return north, math.degrees(east / _EARTH_RADIUS_M)
        if self.epsg != WGS84:
            raise ValueError(f"EPSG {self.epsg} is not converted")
        return north, east

    def mm_per_px(self, width: int, height: int) -> float | None:
        """Scale in the middle of the photo; ``None`` where it is unknown or not one number."""
        if self.metres is None:
            return None
        a, b, _, d, e, _ = self.matrix
        across, down = math.hypot(a, d), math.hypot(b, e)
        if not 0 < max(across, down) <= _SQUARE * min(across, down):
            return None
        scale = math.sqrt(across * down) * self.metres * 1000
        if self.epsg == WEB_MERCATOR:  # stretched away from the equator
            place = self.latitude_longitude(width / 2, height / 2)
            if place is None:
                return None
            scale *= math.cos(math.radians(place[0]))
        return scale


@dataclass(frozen=True)
class Location:
    """What a file says of its place and scale; ``None`` where it says nothing that can be true.

    Attributes:
        latitude: Of the camera, in degrees, WGS 84.
        longitude: Of the camera, in degrees, WGS 84.
        dpi_mm_per_px: A pixel's size by the file's resolution in dots per inch. It means something
            for scans only: cameras write 72 or 300 whatever they look at, so that it is ``None``
            where the file tells of an exposure.
        grid: Of a GeoTIFF.
    """

    latitude: float | None = None
    longitude: float | None = None
    dpi_mm_per_px: float | None = None
    grid: Georeference | None = None

    def mm_per_px(self, width: int, height: int, *, given: float | None, dpi: bool) -> float | None:
        """The scale to go by: the given one, a GeoTIFF's, or, if asked for, the resolution's."""
        if given is not None:
            return given
        found = self.grid.mm_per_px(width, height) if self.grid is not None else None
        return found if found is not None or not dpi else self.dpi_mm_per_px

    def middle(self, width: int, height: int) -> tuple[float, float] | None:
        """Latitude and longitude of the photo: of its middle on the map, or of the camera."""
        found = self.grid.latitude_longitude(width / 2, height / 2) if self.grid else None
        if found is None and self.latitude is not None and self.longitude is not None:
            found = self.latitude, self.longitude
        return found


def check_scale(mm_per_px: float | None) -> None:
    """Refuse a scale that cannot be with a `UsageError`; ``None`` is none."""
    if mm_per_px is not None and not 0 < mm_per_px < 1e6:
        raise UsageError(f"the scale must be above 0 mm per px, got {mm_per_px:g}")


def read_location(image: Image.Image) -> Location:
    """From a Pillow image whose file is open; of a TIFF before it is decoded, of others after.

    Metadata that is damaged or cannot be true counts as missing: it never costs the photo.
    """
    try:
        exif = image.getexif()
        latitude, longitude = _gps(exif.get_ifd(_GPS_IFD))
    except Exception:  # Pillow raises whatever a damaged table leads it to
        latitude = longitude = None
    return Location(latitude, longitude, _resolution(image), _grid(image))


def _gps(table: dict[int, Any]) -> tuple[float | None, float | None]:
    north = _degrees(table.get(2), table.get(1), "NS")
    east = _degrees(table.get(4), table.get(3), "EW")
    # Cameras without a fix write zeros.
    if north is None or east is None or (north == 0 and east == 0) or not _on_earth(north, east):
        return None, None
    return north, east


def _degrees(parts: Any, side: Any, sides: str) -> float | None:
    if not isinstance(parts, tuple) or not 1 <= len(parts) <= 3 or not isinstance(side, str):
        return None
    letter = side.strip("\0 ").upper()
    if letter not in tuple(sides):
        return None
    value = sum(float(part) / 60**k for k, part in enumerate(parts))
    return value if letter == sides[0] else -value


def _on_earth(north: float, east: float) -> bool:
    return -90 <= north <= 90 and -180 <= east <= 180


def _resolution(image: Image.Image) -> float | None:
    try:
        taken = image.getexif().get_ifd(_EXIF_IFD)
        across, down = (float(value) for value in image.info["dpi"])
        if any(tag in taken for tag in _CAMERA_TAGS):
            return None
        # Below 30 dpi it is a placeholder such as 1 x 1.
        if not 30 <= across <= 100_000 or max(across, down) > _SQUARE * min(across, down):
            return None
        return 25.4 / math.sqrt(across * down)
    except Exception:  # none, or damaged
        return None


def _grid(image: Image.Image) -> Georeference | None:
    tags = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return None
    try:
        if tags.get(_ORIENTATION, 1) != 1:
            return None  # its place is that of the stored rows, which are turned
        keys = _keys(tags.get(_GEO_KEYS))
        matrix = _matrix(tags, point=keys.get(_RASTER_TYPE) == 2)
        if matrix is None or not all(abs(v) < _FARTHEST for v in matrix):  # nor NaN
            return None
        return Georeference(matrix, *_system(keys))
    except Exception:  # damaged
        return None


def _keys(directory: Any) -> dict[int, int]:
    """Keys of a GeoTIFF whose values stand in the directory itself (section 7.1.1 of its rules)."""
    if not isinstance(directory, tuple):
        return {}
    rows = [directory[k : k + 4] for k in range(4, len(directory) - 3, 4)]
    return {int(key): int(value) for key, place, _, value in rows if place == 0}


def _matrix(tags: Any, *, point: bool) -> tuple[float, float, float, float, float, float] | None:
    whole, scale, tie = tags.get(_TRANSFORM), tags.get(_PIXEL_SCALE), tags.get(_TIE_POINT)
    if whole is not None and len(whole) == 16:
        a, b, c, d, e, f = (float(whole[k]) for k in (0, 1, 3, 4, 5, 7))
    elif scale is not None and tie is not None and len(tie) == 6:
        a, b, d, e = float(scale[0]), 0.0, 0.0, -float(scale[1])
        c, f = float(tie[3]) - a * float(tie[0]), float(tie[4]) - e * float(tie[1])
    else:
        return None
    if a * e - b * d == 0:
        return None
    if point:  # the coordinates are those of the middle of a pixel
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return a, b, c, d, e, f


def _system(keys: dict[int, int]) -> tuple[int | None, float | None]:
    """EPSG code and metres of a unit."""
    if keys.get(_MODEL_TYPE) == 2:
        code, metres = keys.get(_GEOGRAPHIC, _USER_DEFINED), None
    elif keys.get(_MODEL_TYPE) == 1:
        code = keys.get(_PROJECTED, _USER_DEFINED)
        # Without a unit of its own, the system's is meant; unknown systems may be in feet.
        metric = code == WEB_MERCATOR or is_utm(code) or 25828 <= code <= 25838  # ETRS89 UTM
        usual = 1.0 if metric else None
        metres = _METRES.get(keys[_LINEAR_UNIT]) if _LINEAR_UNIT in keys else usual
    else:
        return None, None
    return (code if 1024 <= code < _USER_DEFINED else None), metres
