"""Universal Transverse Mercator on WGS 84 to latitude and longitude."""

from __future__ import annotations

import math

# WGS 84: equatorial radius in metres and flattening; UTM: scale, false easting and northing.
_RADIUS, _FLATTENING = 6_378_137.0, 1 / 298.257_223_563
_SCALE, _EAST, _SOUTH = 0.9996, 500_000.0, 10_000_000.0


def is_utm(epsg: int | None) -> bool:
    """Whether this is a zone of UTM on WGS 84: EPSG 32601 to 32660 north, 32701 to 32760 south."""
    return epsg is not None and 1 <= epsg % 100 <= 60 and epsg // 100 in (326, 327)


def from_utm(epsg: int, east: float, north: float) -> tuple[float, float]:
    """Latitude and longitude in degrees, within a millimetre inside of the zone.

    After Krüger 1912, to the fourth order in the third flattening; the series as Karney 2011
    ("Transverse Mercator with an accuracy of a few nanometers", equations 11, 36 and 7) has them.
    """
    n = _FLATTENING / (2 - _FLATTENING)
    rectified = _RADIUS / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    beta = (
        n / 2 - 2 * n**2 / 3 + 37 * n**3 / 96 - n**4 / 360,
        n**2 / 48 + n**3 / 15 - 437 * n**4 / 1440,
        17 * n**3 / 480 - 37 * n**4 / 840,
        4397 * n**4 / 161_280,
    )
    if epsg // 100 == 327:
        north -= _SOUTH
    xi, eta = north / (_SCALE * rectified), (east - _EAST) / (_SCALE * rectified)
    up, across = xi, eta
    for k, b in enumerate(beta, start=1):
        up -= b * math.sin(2 * k * xi) * math.cosh(2 * k * eta)
        across -= b * math.cos(2 * k * xi) * math.sinh(2 * k * eta)
    tangent = math.sin(up) / math.hypot(math.sinh(across), math.cos(up))
    latitude = math.degrees(math.atan(_geographic(tangent)))
    middle = (epsg % 100) * 6 - 183
    return latitude, middle + math.degrees(math.atan2(math.sinh(across), math.cos(up)))


def _geographic(conformal: float) -> float:
    """Tangent of the latitude from that of the conformal latitude, by Newton's method."""
    e2 = _FLATTENING * (2 - _FLATTENING)
    e, tangent = math.sqrt(e2), conformal
    for _ in range(5):
        root = math.hypot(1, tangent)
        sigma = math.sinh(e * math.atanh(e * tangent / root))
        again = tangent * math.hypot(1, sigma) - sigma * root
        step = (conformal - again) / math.hypot(1, again) * (1 + (1 - e2) * tangent**2)
        tangent += step / ((1 - e2) * root)
    return tangent
