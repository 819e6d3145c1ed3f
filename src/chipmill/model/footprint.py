"""Where chips lie on earth: corners in longitude and latitude, polygons, sizes in metres."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from chipmill.errors import SceneError
from chipmill.model.grid import ChipGrid, Grid
from chipmill.model.wkb import Wkb

METRES_PER_DEGREE = 6_371_008.8 * math.pi / 180
"""Length of a degree of latitude on a sphere of the mean radius of the earth (IUGG)."""

_HALF = 180
"""Degrees; a chip that seems wider crosses the antimeridian."""
_WKB = np.dtype(
    [
        ("little", "u1"),
        ("kind", "<u4"),
        ("rings", "<u4"),
        ("points", "<u4"),
        ("ring", "<f8", (5, 2)),
    ]
)
"""A polygon of one ring of five points (OGC 06-103r4, Simple Feature Access, 8.2)."""
_POLYGON = 3


def pixel_metres(grid: Grid, *, latitude: float) -> float:
    """Give the size of a pixel in metres, the larger of its two edges.

    Args:
        grid: A grid in a projected or geographic CRS.
        latitude: Where a degree of longitude is measured when the CRS is geographic.
    """
    x, y = grid.pixel
    units = _units(grid.crs)
    if units is None:
        return METRES_PER_DEGREE * max(x * math.cos(math.radians(latitude)), y)
    return max(x * units[0], y * units[1])


def remainder_area(chips: ChipGrid) -> float:
    """Give the area of a scene's pixels that belong to no chip, in square metres.

    It is measured in the plane of a projected CRS; in degrees on a sphere of the mean radius of the
    earth, at the latitude of each row.
    """
    grid, used = chips.grid, (chips.rows * chips.size, chips.cols * chips.size)
    a, b, _, d, e, f = grid.transform
    units = _units(grid.crs)
    if units:
        left = grid.height * grid.width - used[0] * used[1]
        return abs(a * e - b * d) * units[0] * units[1] * left
    middles = np.radians(f + e * (np.arange(grid.height) + 0.5) + d * grid.width / 2)
    free = np.where(np.arange(grid.height) < used[0], grid.width - used[1], grid.width)
    pixel = abs(a * e - b * d) * METRES_PER_DEGREE**2
    return float((np.cos(middles) * free).sum() * pixel)


@lru_cache(maxsize=128)
def _units(crs: str) -> tuple[float, float] | None:
    """Give the metres in a unit of x and y; None: they are degrees."""
    try:
        known = CRS.from_user_input(crs)
    except ProjError as err:
        raise _unknown(crs, err) from err
    if known.is_geographic:
        return None
    factors = [axis.unit_conversion_factor for axis in known.axis_info[:2]]
    return factors[0], factors[-1]


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
    lon, lat = to_lonlat(crs).transform(points[..., 0], points[..., 1])
    placed: NDArray[np.float64] = np.stack([lon, lat], axis=-1)
    if not np.isfinite(placed).all():
        raise SceneError(f"chips lie outside of what {crs[:60]} can show; drop the scene")
    # What reaches on past 180 degrees is the same place at the other end of the map.
    beyond = np.abs(placed[..., 0]) > _HALF
    placed[..., 0][beyond] = (placed[..., 0][beyond] + _HALF) % (2 * _HALF) - _HALF
    return placed


@lru_cache(maxsize=128)
def to_lonlat(crs: str) -> Transformer:
    """Make a transformer once for all scenes of a CRS; several threads may use it (pyproj 3.1).

    Raises:
        SceneError: The CRS is not known.
    """
    try:
        return Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    except ProjError as err:
        raise _unknown(crs, err) from err


def _unknown(crs: str, err: ProjError) -> SceneError:
    return SceneError(f"{crs[:60]!r} is no CRS that is known ({err}); drop the scene")


def polygons(corners: NDArray[np.float64]) -> Wkb:
    """Write the polygon of each chip.

    Args:
        corners: Shape (rows + 1, cols + 1, 2), longitude and latitude.

    Returns:
        The geometry of each chip, row-major: polygons, counter-clockwise; a chip that crosses the
        antimeridian is a multipolygon of its two sides.
    """
    ring = np.stack(
        [corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:], corners[:-1, :-1]],
        axis=2,
    ).reshape(-1, 5, 2)
    over = crosses(corners)
    ring[..., 0] += 360 * (over[:, None] & (ring[..., 0] < 0))
    clockwise = _areas(ring) < 0  # where rows go north
    ring[clockwise] = ring[clockwise, ::-1]
    written = np.empty(len(ring), _WKB)
    written["little"], written["kind"] = 1, _POLYGON
    written["rings"], written["points"], written["ring"] = 1, ring.shape[1], ring
    if not over.any():
        return Wkb(written.view(np.uint8), _WKB.itemsize * np.arange(len(ring) + 1))
    found: list[bytes] = written.view(f"V{_WKB.itemsize}").tolist()
    for chip in np.flatnonzero(over).tolist():
        found[chip] = _two_sides(ring[chip])
    return Wkb.of(found)


def _two_sides(ring: NDArray[np.float64]) -> bytes:
    """Write a chip that crosses the antimeridian, of which longitudes reach beyond 180 degrees."""
    # They take memory and time to load, and hardly a scene needs them.
    import antimeridian  # noqa: PLC0415
    import shapely  # noqa: PLC0415

    return shapely.to_wkb(antimeridian.fix_polygon(shapely.Polygon(ring)))


def _areas(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give twice the area of each ring, negative where it goes clockwise (shoelace formula)."""
    x, y = np.moveaxis(ring - ring[:, :1], -1, 0)
    return (x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1]).sum(axis=1)


def boxes(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the box of each chip.

    Returns:
        Shape (rows * cols, 4): west, south, east, north; west > east across the antimeridian, as
        GeoJSON has it.
    """
    lon = corners[..., 0]
    (west, far), (south, north) = _least_and_most(lon), _least_and_most(corners[..., 1])
    over = crosses(corners)
    if over.any():
        other_west, other_far = _least_and_most(lon + 360.0 * (lon < 0))
        west, far = np.where(over, other_west, west), np.where(over, other_far, far)
    east = np.where(far > _HALF, far - 360.0, far)
    return np.stack([west, south, east, north], axis=1)


def crosses(corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which chips cross the antimeridian: shape (rows * cols,)."""
    west, east = _least_and_most(corners[..., 0])
    return (east - west) > _HALF


def _least_and_most(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the extremes of the values at the corners of each chip, two of shape (rows * cols,)."""
    one, other, third, last = values[:-1, :-1], values[1:, :-1], values[1:, 1:], values[:-1, 1:]
    return (
        np.minimum(np.minimum(one, other), np.minimum(third, last)).reshape(-1),
        np.maximum(np.maximum(one, other), np.maximum(third, last)).reshape(-1),
    )
