"""The outline of a raster on earth, where no item says it."""

import antimeridian
import numpy as np
import shapely

from chipmill.errors import SceneError
from chipmill.model.footprint import to_lonlat
from chipmill.model.grid import Grid
from chipmill.model.scene import BBox

_HALF = 180
_STEPS = 16
"""Points along each edge."""


def outline(grid: Grid) -> tuple[shapely.Geometry, BBox]:
    """Give the outline of a whole raster in longitude and latitude, and its box.

    Its edges are followed, since a straight edge of one projection is bent in another. Across the
    antimeridian the outline is a multipolygon and the box has west > east, as GeoJSON has them.

    Raises:
        SceneError: The CRS is not known, or a point has no place on earth in it.
    """
    steps = np.linspace(0, 1, _STEPS, endpoint=False)
    start, end = np.zeros(_STEPS), np.ones(_STEPS)
    down = np.concatenate([steps, end, 1 - steps, start]) * grid.height
    across = np.concatenate([start, steps, end, 1 - steps]) * grid.width
    a, b, c, d, e, f = grid.transform
    points = np.stack([c + a * across + b * down, f + d * across + e * down], axis=-1)
    ring = np.stack(to_lonlat(grid.crs).transform(points[..., 0], points[..., 1]), axis=-1)
    if not np.isfinite(ring).all():
        raise SceneError(f"its edges lie outside of what {grid.crs[:60]} can show; leave it out")
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
