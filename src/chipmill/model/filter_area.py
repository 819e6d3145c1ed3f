"""The areas of a filter: which boxes may touch them, which polygons do."""

import json
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from chipmill.errors import RequestError

OPERATORS = ("s_intersects", "s_disjoint", "s_within")
_MOST_BOXES = 16
"""Parts of an area that are asked for by a box each; of more parts, one box holds all."""
_CORNERS = 4
_HALF, _QUARTER = 180, 90
"""Degrees."""
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_NEIGHBOURS = 128
"""Chips that are asked for together by the box around them; a part of one scene as a rule."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Area:
    """A part of the earth in longitude and latitude, and how chips must lie to it."""

    shape: shapely.Geometry
    whole: bool
    """Whether all of a chip must lie in it, or any of it."""

    def touches(self) -> "pc.Expression":
        """Make the condition that a chip's box touches a box of the area."""
        parts = shapely.get_parts(self.shape)
        shapes = parts if len(parts) <= _MOST_BOXES else np.array([self.shape])
        boxes = [_box_touches(*box) for box in shapely.bounds(shapes).tolist()]
        return reduce(lambda one, other: one | other, boxes)


@dataclass(frozen=True, slots=True, eq=False)
class AreaTest:
    """The exact test of some chips, of which neighbours lie near on earth.

    A box around many chips decides for all of them, unless the border of the area crosses it; only
    there polygons are looked at.
    """

    chips: pa.Table
    """With `geometry` (WKB) and `bbox`."""

    def holds(self, area: Area) -> NDArray[np.bool_]:
        """Tell which chips lie as the area asks, shape (chips,)."""
        shapely.prepare(area.shape)
        found, open_ = self._by_boxes(area)
        places = np.flatnonzero(open_)
        if len(places):
            geometry = self.chips["geometry"].take(cast("Any", pa).array(places))
            shapes = shapely.from_wkb(geometry.to_numpy())
            test = shapely.covers if area.whole else shapely.intersects
            found[places] = test(area.shape, shapes)
        return found

    def _by_boxes(self, area: Area) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell which chips lie in the area as a whole, and which are still to be looked at."""
        flat = self.chips.select(["bbox"]).flatten()
        west, south, east, north = (flat[f"bbox.{side}"].to_numpy() for side in _SIDES)
        starts = np.arange(0, len(west), _NEIGHBOURS)
        if not len(starts):
            return np.zeros(0, np.bool_), np.zeros(0, np.bool_)
        low, high = np.minimum.reduceat, np.maximum.reduceat
        boxes = shapely.box(
            low(west, starts), low(south, starts), high(east, starts), high(north, starts)
        )
        # A box with west > east crosses the antimeridian, and says nothing of what lies between.
        plain = ~np.logical_or.reduceat(west > east, starts)
        inside = shapely.covers(area.shape, boxes) & plain
        outside = ~shapely.intersects(area.shape, boxes) & plain
        counts = np.diff(np.append(starts, len(west)))
        return np.repeat(inside, counts), np.repeat(~(inside | outside), counts)


def is_area(node: dict[str, Any]) -> bool:
    """Say whether a condition is one on an area."""
    return node.get("op") in OPERATORS


def area_of(node: dict[str, Any]) -> Area:
    """Read the area of a condition; `s_disjoint` is read as the intersection that it denies.

    Raises:
        RequestError: It compares something else than the chip's geometry with an area.
    """
    args = cast("list[Any]", node.get("args", []))
    places = [arg for arg in args if arg != {"property": "geometry"}]
    if len(args) != len(("geometry", "area")) or len(places) != 1:
        raise RequestError(
            f"the filter's {node['op']} needs the column geometry and one area; write it like "
            f"{node['op']}(geometry, BBOX(5, 47, 15, 55))"
        )
    return Area(shape=_shape(places[0]), whole=node["op"] == "s_within")


def _shape(place: object) -> shapely.Geometry:
    """Build an area of GeoJSON or of a box; a box with west > east crosses the antimeridian."""
    said = cast("dict[str, Any]", place) if isinstance(place, dict) else {}
    try:
        found = _box(said["bbox"]) if "bbox" in said else shapely.from_geojson(json.dumps(said))
    except (shapely.errors.ShapelyError, ValueError, TypeError):
        found = None
    if found is None or not _is_area(found, is_box="bbox" in said):
        raise RequestError(
            f"the filter's area {place!r:.60} is none; give BBOX(west, south, east, north) or "
            "a POLYGON whose sides do not cross, between 180 degrees west and east"
        )
    return found


def _is_area(found: shapely.Geometry, *, is_box: bool) -> bool:
    """Tell whether it is an area on earth; a box may be a line or a point, which is none."""
    if shapely.is_empty(found) or not (is_box or shapely.is_valid(found)):
        return False
    west, south, east, north = shapely.bounds(found)
    return west >= -_HALF and east <= _HALF and south >= -_QUARTER and north <= _QUARTER


def _box(sides: list[float]) -> shapely.Geometry:
    if len(sides) != _CORNERS or not sides[1] <= sides[3]:
        raise ValueError
    west, south, east, north = sides
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.MultiPolygon(
        [shapely.box(west, south, _HALF, north), shapely.box(-_HALF, south, east, north)]
    )


def _box_touches(west: float, south: float, east: float, north: float) -> "pc.Expression":
    """Make the condition that a chip's box touches a box that does not cross the antimeridian."""
    left, low, right, high = (cast("Any", pc.field)("bbox", side) for side in _SIDES)
    # A chip's box with xmin > xmax crosses the antimeridian.
    beside = (left <= east) & (right >= west)
    across = (left > right) & ((left <= east) | (right >= west))
    return (low <= north) & (high >= south) & (beside | across)
