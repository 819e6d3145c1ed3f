"""Items that are all at hand, found by place through a tree: tiles are asked for by thousands."""

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon, STRtree, box
from shapely.errors import GEOSException
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from chipmill.io.catalog_query import Item, Query, has_id, matching, sides


class Listed:
    """The items of a file or of a static catalogue; many threads may ask at once."""

    def __init__(self, items: Iterable[Item]) -> None:
        """Read all items."""
        self._items = list(items)
        outlines = np.array([_outline(item) for item in self._items], dtype=np.object_)
        self._tree = STRtree(outlines)

    def find(self, query: Query) -> Iterator[Item]:
        """Find items, in the order of the list.

        Raises:
            CatalogError: A time of the query or of an item is none.
        """
        area = _area(query)
        if area is None:
            return matching(self._items, query)
        near = sorted(int(number) for number in self._tree.query(area))
        return matching([self._items[number] for number in near], query)


def _area(query: Query) -> Polygon | MultiPolygon | None:
    if query.bbox:
        return MultiPolygon([box(*side) for side in sides(query.bbox)])
    return query.area


def _outline(item: Item) -> BaseGeometry | None:
    """Outline an item; what has no place, or none that can be read, is nowhere."""
    geometry = item.get("geometry") if has_id(item) else None
    try:
        return shape(geometry) if geometry else None
    except (GEOSException, ValueError, KeyError, TypeError, AttributeError):
        return cast("BaseGeometry", shapely.Point())
