"""Where chips lie on earth: corners in longitude and latitude, polygons, sizes in metres."""

import math

import antimeridian
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from chipmill.errors import SceneError
from chipmill.model.grid import ChipGrid, Grid
from chipmill.model.scene import BBox

METRES_PER_DEGREE = 6_371_008.8 * math.pi / 180
"""Length of a degree of latitude on a sphere of the mean radius of the earth (IUGG)."""

_HALF = 180
"""Degrees; a chip that seems wider crosses the antimeridian."""
_STEPS = 16
"""Points along each edge of an outline."""


def pixel_metres(grid: Grid, *, latitude: float) -> float:
    """Give the size of a pixel in metres, the larger of its two edges.

    Args:
        grid: A grid in a projected or geographic CRS.
        latitude: Where a degree of longitude is measured when the CRS is geographic.
    """
    crs = CRS.from_user_input(grid.crs)
    x, y = grid.pixel
    if crs.is_geographic:
        return METRES_PER_DEGREE * max(x * math.cos(math.radians(latitude)), y)
    factors = [axis.unit_conversion_factor for axis in crs.axis_info[:2]]
    return max(x * factors[0], y * factors[-1])


def lonlat_corners(chips: ChipGrid) -> NDArray[np.float64]:
    """Project the corners of all chips.

    Returns:
        Shape (rows + 1, cols + 1, 2): longitude and latitude in degrees (OGC:CRS84).

    Raises:
        SceneError: A corner has no place on earth in this CRS.
    """
    return _lonlat(chips.corners(), chips.grid.crs)


def lonlat_centres(chips: ChipGrid) -> NDArray[np.float64]:
    """Project the centres of all chips.

    Returns:
        Shape (rows, cols, 2): longitude and latitude in degrees (OGC:CRS84).

    Raises:
        SceneError: A centre has no place on earth in this CRS.
    """
    corners = chips.corners()
    middles = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    return _lonlat(middles, chips.grid.crs)


def _lonlat(points: NDArray[np.float64], crs: str) -> NDArray[np.float64]:
    to_lonlat = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    lon, lat = to_lonlat.transform(points[..., 0], points[..., 1])
    placed = np.stack([lon, lat], axis=-1)
    if not np.isfinite(placed).all():
        raise SceneError(f"chips lie outside of what {crs[:60]} can show; drop the scene")
    return placed


def outline(grid: Grid) -> tuple[shapely.Geometry, BBox]:
    """Give the outline of a whole raster in longitude and latitude, and its box.

    Its edges are followed, since a straight edge of one projection is bent in another. Across the
    antimeridian the outline is a multipolygon and the box has west > east, as GeoJSON has them.

    Raises:
        SceneError: A point of it has no place on earth in this CRS.
    """
    steps = np.linspace(0, 1, _STEPS, endpoint=False)
    start, end = np.zeros(_STEPS), np.ones(_STEPS)
    down = np.concatenate([steps, end, 1 - steps, start]) * grid.height
    across = np.concatenate([start, steps, end, 1 - steps]) * grid.width
    a, b, c, d, e, f = grid.transform
    points = np.stack([c + a * across + b * down, f + d * across + e * down], axis=-1)
    ring = _lonlat(points, grid.crs)
    ring[:, 0] = np.unwrap(ring[:, 0], period=2 * _HALF)
    west, south, east, north = (*ring.min(axis=0), *ring.max(axis=0))
    if east - west >= 2 * _HALF:
        return shapely.box(-_HALF, south, _HALF, north), (-_HALF, south, _HALF, north)
    shape = shapely.orient_polygons(shapely.Polygon(ring))
    fixed = antimeridian.fix_polygon(shape) if west < -_HALF or east > _HALF else shape
    return fixed, (_wrapped(west), float(south), _wrapped(east), float(north))


def _wrapped(longitude: float) -> float:
    """Bring a longitude between -180 and 180 degrees."""
    return float(longitude - 2 * _HALF * round(longitude / (2 * _HALF) - 1e-12))


def polygons(corners: NDArray[np.float64]) -> NDArray[np.object_]:
    """Build the polygon of each chip.

    Args:
        corners: Shape (rows + 1, cols + 1, 2), longitude and latitude.

    Returns:
        Shape (rows * cols,), row-major: shapely polygons, counter-clockwise; a chip that crosses
        the antimeridian is a multipolygon of its two sides.
    """
    ring = np.stack(
        [corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:], corners[:-1, :-1]],
        axis=2,
    ).reshape(-1, 5, 2)
    over = crosses(corners)
    ring[..., 0] += 360 * (over[:, None] & (ring[..., 0] < 0))
    shapes = np.asarray(shapely.orient_polygons(shapely.polygons(ring)))  # rows may go north
    for chip in np.flatnonzero(over):
        shapes[chip] = antimeridian.fix_polygon(shapes[chip])
    return shapes


def boxes(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the box of each chip.

    Returns:
        Shape (rows * cols, 4): west, south, east, north; west > east across the antimeridian, as
        GeoJSON has it.
    """
    lon = _four(corners[..., 0])
    lat = _four(corners[..., 1])
    over = crosses(corners)
    east_of_it = np.where(over[:, None] & (lon < 0), lon + 360, lon)
    west, far = east_of_it.min(axis=1), east_of_it.max(axis=1)
    east = far - 360 * (far > _HALF)
    return np.stack([west, lat.min(axis=1), east, lat.max(axis=1)], axis=1)


def crosses(corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which chips cross the antimeridian: shape (rows * cols,)."""
    lon = _four(corners[..., 0])
    return (lon.max(axis=1) - lon.min(axis=1)) > _HALF


def _four(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the values at the four corners of each chip: shape (rows * cols, 4)."""
    return np.stack(
        [values[:-1, :-1], values[1:, :-1], values[1:, 1:], values[:-1, 1:]], axis=-1
    ).reshape(-1, 4)
