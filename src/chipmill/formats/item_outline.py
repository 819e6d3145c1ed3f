"""Where on earth an item says that it lies, divided at the antimeridian as GeoJSON asks for it.

Catalogues often do not divide: their outlines jump from 179 to -179 degrees, or go on past 180.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from chipmill.formats.candidate import bbox_of

_HALF = 180.0
_TURN = 360.0


def read_outline(item: Mapping[str, Any]) -> BaseGeometry | None:
    """Outline an item in degrees; None: it states no geometry, which STAC allows.

    Raises:
        ShapelyError, AttributeError, KeyError, TypeError, ValueError: Its geometry is none.
    """
    stated = item.get("geometry")
    if stated is None:
        return None
    found = shape(stated)
    west, _, east, _ = shapely.bounds(found).tolist()
    goes_on = west < -_HALF or east > _HALF
    if not goes_on and east - west <= _HALF:
        return found
    if _jumps(found, item):
        found = shapely.transform(found, _eastward)
    elif not goes_on:
        return found
    return _divided(found)


def _jumps(found: BaseGeometry, item: Mapping[str, Any]) -> bool:
    """Tell by the box, which has west > east, of an outline whose parts are not on one side."""
    west, _, east, _ = bbox_of(item)
    if west <= east <= _HALF and west >= -_HALF:
        return False
    bounds = shapely.bounds(shapely.get_parts(found))
    return bool((bounds[:, 2] - bounds[:, 0] > _HALF).any())


def _eastward(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let longitudes go on past 180 instead of beginning anew."""
    return points + np.where(points < 0, _TURN, 0.0) * (1.0, 0.0)


def _divided(found: BaseGeometry) -> BaseGeometry:
    """Bring back onto the earth what lies beyond 180 degrees on either side."""
    valid = shapely.make_valid(found)
    turned = [
        translate(shapely.intersection(valid, _earth(turn)), -turn) for turn in (-_TURN, 0, _TURN)
    ]
    parts = shapely.get_parts(shapely.get_parts(turned))
    # A side that only touches the antimeridian is a line there.
    whole = parts[shapely.get_dimensions(parts) == shapely.get_dimensions(found)]
    return shapely.union_all(whole)


def _earth(turn: float) -> BaseGeometry:
    return shapely.box(turn - _HALF, -90, turn + _HALF, 90)
