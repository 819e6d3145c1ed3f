"""Where a whole grid lies on earth, and how two boxes on earth lie to each other."""

from shapely import MultiPolygon, Polygon, box

from chipmill.errors import SceneError
from chipmill.model.footprint import to_lonlat
from chipmill.model.grid import Grid
from chipmill.model.scene import BBox

_HALF = 180
_TURN = 360
_POINTS = 21
"""Points along each edge that are projected: edges are curved on earth."""


def extent(grid: Grid) -> BBox:
    """Give the box of a grid in degrees (OGC:CRS84); it may cross the antimeridian.

    Raises:
        SceneError: The CRS is not known, or the grid has no place on earth in it.
    """
    a, b, c, d, e, f = grid.transform
    xs = [a * col + b * row + c for col in (0, grid.width) for row in (0, grid.height)]
    ys = [d * col + e * row + f for col in (0, grid.width) for row in (0, grid.height)]
    west, south, east, north = to_lonlat(grid.crs).transform_bounds(
        min(xs), min(ys), max(xs), max(ys), densify_pts=_POINTS
    )
    if not all(abs(each) <= _TURN for each in (west, south, east, north)):
        raise SceneError(f"a file lies outside of what {grid.crs[:60]} can show; drop the scene")
    if east - west >= _TURN:
        return -float(_HALF), south, float(_HALF), north
    return _turned(west), max(south, -90.0), _turned(east), min(north, 90.0)


def _turned(longitude: float) -> float:
    """Bring a longitude past 180 back: a geographic grid may go on there."""
    if -_HALF <= longitude <= _HALF:
        return longitude
    return longitude - _TURN if longitude > 0 else longitude + _TURN


def shape_of(bbox: BBox) -> Polygon | MultiPolygon:
    """Give the shape of a box: across the antimeridian its two sides."""
    west, south, east, north = bbox
    if west <= east:
        return box(*bbox)
    return MultiPolygon([box(west, south, _HALF, north), box(-_HALF, south, east, north)])


def outside(stated: BBox, *, files: BBox) -> float:
    """Give the share of a stated box that lies outside of the files' box, in [0, 1].

    A stated box is often smaller than that of the files, whose corners are empty; but it should not
    go beyond them. 1.0 means that the two do not even touch.
    """
    said, found = shape_of(stated), shape_of(files)
    if not said.intersects(found):
        return 1.0
    if said.area == 0:
        return 0.0
    return min(1 - float(said.intersection(found).area) / float(said.area), 0.999999)
