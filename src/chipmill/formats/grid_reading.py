"""Read what an item says of the grid of a file: the projection extension, from 1.0 to 2.0."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from chipmill.model.grid import Affine
from chipmill.model.scene import StatedGrid

Json = Mapping[str, Any]
"""A JSON object as it came; its values are checked where they are used."""

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]*:[A-Za-z0-9.]+")
_WKT = re.compile(r"[A-Z]+\[")
_CRS = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")
_PLACE = ("proj:shape", "proj:transform")


def read_grid(asset: Json, properties: Json, *, inherits: bool) -> StatedGrid:
    """Read the grid that an item states for an asset.

    Args:
        asset: The asset as JSON.
        properties: Those of the item. They hold for each asset that does not say otherwise; an
            asset that states a shape or a transform takes neither from the item.
        inherits: False for a thumbnail or a text file, which the item's grid is not of.

    Returns:
        What is stated and of STAC's form; the rest is None.
    """
    above: Json = properties if inherits else {}
    crs = asset if any(asset.get(name) is not None for name in _CRS) else above
    place = asset if any(asset.get(name) is not None for name in _PLACE) else above
    return StatedGrid(
        crs=_crs(crs),
        shape=_shape(place.get("proj:shape")),
        transform=_transform(place.get("proj:transform")),
    )


def _crs(said: Json) -> str | None:
    """Give the CRS by its code where there is one; a code of null leaves WKT2 or PROJJSON."""
    code, epsg = said.get("proj:code"), said.get("proj:epsg")
    if isinstance(code, str) and _CODE.fullmatch(code):
        return code.upper()
    if isinstance(epsg, int) and not isinstance(epsg, bool):
        return f"EPSG:{epsg}"
    wkt2, projjson = said.get("proj:wkt2"), said.get("proj:projjson")
    if isinstance(wkt2, str) and _WKT.match(wkt2):
        return wkt2
    return json.dumps(projjson) if isinstance(projjson, dict) else None


def _shape(value: object) -> tuple[int, int] | None:
    match value:
        case [int(height), int(width)] if height > 0 and width > 0:
            return height, width
        case _:
            return None


def _transform(value: object) -> Affine | None:
    """Read six numbers, or the nine of the whole matrix, whose last row says nothing."""
    if not isinstance(value, list):
        return None
    numbers = [
        number for each in cast("Sequence[object]", value) if (number := finite(each)) is not None
    ]
    if len(numbers) != len(cast("Sequence[object]", value)) or len(numbers) not in (6, 9):
        return None
    a, b, c, d, e, f = numbers[:6]
    return a, b, c, d, e, f


def finite(value: object) -> float | None:
    """Read a finite number; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's integers have no end
        return None
    return number if math.isfinite(number) else None
