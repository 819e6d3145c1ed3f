"""What a STAC item search asks for, with CQL2 and sorting where the server has them."""

import json
from collections.abc import Set as AbstractSet
from typing import Any, cast

import shapely
from pystac_client import ItemSearch

from chipmill.io.catalog_query import Query, interval
from chipmill.model.scene import BBox

_MOST_POINTS = 500
"""An outline of more points is asked for by its box: servers limit the size of a request."""

Body = dict[str, Any]


def search_parameters(
    url: str, query: Query, box: BBox | None, *, posts: bool, page: int, offers: AbstractSet[str]
) -> Body:
    """Write what a search asks for: the body of a POST, or the parameters of a GET.

    Args:
        url: Of the search.
        query: What is looked for.
        box: The box, or one side of it, instead of that of the query.
        posts: Whether the server takes a POST.
        page: Items that a page may have.
        offers: Extensions that the server has, of `filter` and `sort`.
    """
    conditions = _conditions(query) if "filter" in offers else []
    both = {"op": "and", "args": conditions}
    sorts = query.least_cloudy_first and "sort" in offers
    search = ItemSearch(
        url,
        method="POST" if posts else "GET",
        limit=page,
        bbox=list(box) if box else None,
        collections=list(query.collections) or None,
        ids=list(query.ids) or None,
        datetime=_datetime(query.period),
        intersects=_geometry(query),
        filter=(conditions[0] if len(conditions) == 1 else both) if conditions else None,
        sortby=[{"field": "properties.eo:cloud_cover", "direction": "asc"}] if sorts else None,
    )
    return search.get_parameters()


def needed(query: Query) -> set[str]:
    """Tell which extensions would do the work of a query at the server."""
    wanted = {"filter"} if _conditions(query) else set[str]()
    return wanted | ({"sort"} if query.least_cloudy_first else set[str]())


def _conditions(query: Query) -> list[Body]:
    said: list[Body] = []
    if query.max_cloud is not None:
        said.append(_or_unknown("<=", "eo:cloud_cover", query.max_cloud))
    if query.changed_in and query.changed_since:
        time = query.changed_since.isoformat().replace("+00:00", "Z")
        said.append(_or_unknown(">=", query.changed_in, {"timestamp": time}))
    return said


def _or_unknown(op: str, name: str, value: object) -> Body:
    """Keep what says nothing of a property, as all other kinds of catalogue do."""
    prop = {"property": name}
    known = {"op": op, "args": [prop, value]}
    return {"op": "or", "args": [known, {"op": "isNull", "args": [prop]}]}


def _geometry(query: Query) -> Body | None:
    area = query.area
    if area is None or query.bbox:
        return None
    if shapely.get_num_coordinates(area) > _MOST_POINTS:
        area = shapely.envelope(area)
    return cast("Body", json.loads(shapely.to_geojson(area)))


def _datetime(period: str | None) -> str | None:
    """Write a period as RFC 3339 has it: servers differ over plain dates."""
    if not period:
        return None
    first, _, last = period.partition("/")
    ends = zip((first, last or first), interval(period), strict=True)
    return "/".join(
        ".." if text in ("", "..") else time.isoformat().replace("+00:00", "Z")
        for text, time in ends
    )
