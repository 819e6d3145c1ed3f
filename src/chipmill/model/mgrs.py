"""Where the tiles of Sentinel-2 lie, by their names in the Military Grid Reference System.

NGA.STND.0037 (universal grids), section on the 100,000 m square identification. Sentinel-2 goes on
with the bands C and X beyond 80° S and 84° N, where a library for MGRS names places them 18 degrees
off or refuses them; so the northing is the one that lies nearest to the band.
"""

import re
from functools import cache

import antimeridian
import numpy as np
import shapely
from pyproj import Transformer
from shapely import MultiPolygon, Polygon

from chipmill.errors import RequestError

_NAME = re.compile(
    r"(?:MGRS-|T)?(0?[1-9]|[1-5]\d|60)([C-HJ-NP-X])([A-HJ-NP-Z])([A-HJ-NP-V])", re.IGNORECASE
)
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")
"""Letters of the columns from 100 km east on, by the zone modulo 3."""
_ROWS = "ABCDEFGHJKLMNPQRSTUV"

_SQUARE = 100_000
_EDGE = 109_800
"""Metres of a Sentinel-2 tile; it begins in the north-west corner of its square and goes over its
east and south edges (Sentinel-2 product specification, tiling grid)."""
_CYCLE = len(_ROWS) * _SQUARE
_METRES_PER_DEGREE = 111_000
"""Of latitude, about; a band may be taken for one that lies 18 degrees off, never for the next."""
_POINTS = 8
"""Points along an edge, which is curved in degrees."""


def grid_code(name: str) -> str:
    """Give the grid code of a tile: `33twm`, `T33TWM` and `MGRS-33TWM` are `MGRS-33TWM`.

    Raises:
        RequestError: This is no tile's name.
    """
    zone, band, column, row = _parts(name)
    return f"MGRS-{zone:02d}{band}{column}{row}"


def tile_area(name: str) -> Polygon | MultiPolygon:
    """Outline a Sentinel-2 tile in degrees, divided where it crosses the antimeridian.

    Raises:
        RequestError: This is no tile's name, or its zone has no such column.
    """
    zone, band, column, row = _parts(name)
    columns = _COLUMNS[zone % 3]
    if column not in columns:
        raise RequestError(
            f"{name!r} is no MGRS tile: zone {zone} has the columns {columns[0]} to {columns[-1]}"
        )
    west = (columns.index(column) + 1) * _SQUARE
    north = _northing(zone, band, row) + _SQUARE
    code = (32600 if band >= "N" else 32700) + zone
    steps = np.linspace(0, _EDGE, _POINTS, endpoint=False)
    far = np.full(_POINTS, _EDGE)
    x = west + np.concatenate([steps, far, _EDGE - steps, 0 * far])
    y = north - np.concatenate([0 * far, steps, far, _EDGE - steps])
    lon, lat = _to_lonlat(code).transform(x, y)
    # Unrolled around the middle of the zone, so that an edge never jumps by a turn.
    middle = 6 * zone - 183
    lon = (np.asarray(lon) - middle + 180) % 360 - 180 + middle
    ring = Polygon(np.column_stack([lon, lat]))
    return antimeridian.fix_polygon(shapely.orient_polygons(ring))


@cache
def _to_lonlat(code: int) -> Transformer:
    return Transformer.from_crs(code, "OGC:CRS84", always_xy=True)


def _parts(name: str) -> tuple[int, str, str, str]:
    match = _NAME.fullmatch(name.strip())
    if not match:
        raise RequestError(f"{name!r} is no MGRS tile; write zone, band and two letters, as 33TWM")
    zone, *letters = match.groups()
    band, column, row = (letter.upper() for letter in letters)
    return int(zone), band, column, row


def _northing(zone: int, band: str, row: str) -> float:
    """Give the south edge of a square: rows repeat every 2,000 km, and the band tells which."""
    first = (_ROWS.index(row) - 5 * (zone % 2 == 0)) % len(_ROWS) * _SQUARE
    middle = (-80 + 8 * _BANDS.index(band) + 4) * _METRES_PER_DEGREE
    if band < "N":
        middle += 10_000_000
    return first + _CYCLE * round((middle - first - _SQUARE / 2) / _CYCLE)
