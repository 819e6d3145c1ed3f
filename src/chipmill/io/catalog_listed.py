"""Items that are all at hand, found by place through a tree: tiles are asked for by thousands."""

from collections.abc import Iterable, Iterator

import numpy as np
import shapely
from shapely import STRtree
from shapely.geometry.base import BaseGeometry

from chipmill.formats.item_outline import read_outline
from chipmill.io.catalog_query import (
    Item,
    Query,
    has_id,
    matching,
    query_area,
    reason_without_id,
)
from chipmill.io.left_out import UNREADABLE, LeftOut


class Listed:
    """The items of a file or of a static catalogue; many threads may ask at once."""

    def __init__(self, items: Iterable[Item], left_out: LeftOut) -> None:
        """Read all items.

        Args:
            items: As the source gives them.
            left_out: Takes those that cannot be judged.
        """
        self._left_out = left_out
        self._items = list[Item]()
        for number, item in enumerate(items, 1):
            if has_id(item):
                self._items.append(item)
            else:
                left_out.add(f"number {number} of the list", reason_without_id(item))
        outlines = [_outline(item) for item in self._items]
        self._unclear = {
            number for number, each in enumerate(outlines) if each is not None and each.is_empty
        }
        self._tree = STRtree(np.array(outlines, dtype=np.object_))

    def find(self, query: Query) -> Iterator[Item]:
        """Find items, in the order of the list.

        Raises:
            CatalogError: A time of the query is none.
        """
        area = query_area(query)
        if area is None:
            return matching(self._items, query, self._left_out)
        near = sorted(self._unclear.union(self._tree.query(area).tolist()))
        return matching([self._items[number] for number in near], query, self._left_out)


def _outline(item: Item) -> BaseGeometry | None:
    """Outline an item; an outline that cannot be read is empty, and is judged in the search."""
    try:
        return read_outline(item)
    except UNREADABLE:
        return shapely.Point()
