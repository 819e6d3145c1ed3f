"""What is looked for in a catalogue, and the filter for what a source does not filter itself."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Literal, cast

import shapely
from shapely import MultiPolygon, Polygon, box

from chipmill.formats.candidate import (
    grid_of,
    nodata_of,
    percent,
    properties,
    read_candidate,
    read_time,
)
from chipmill.formats.item_outline import read_outline
from chipmill.formats.signature import unsigned
from chipmill.io.left_out import UNREADABLE, LeftOut, reason
from chipmill.model.scene import BBox

Item = dict[str, Any]
"""A STAC item as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for; what is None or empty does not restrict."""

    collections: tuple[str, ...] = ()
    bbox: BBox | None = None
    area: Polygon | MultiPolygon | None = None
    """In degrees, divided at the antimeridian."""
    period: str | None = None
    """Interval of two RFC 3339 times or dates, `start/end`; `..` leaves an end open."""
    ids: tuple[str, ...] = ()
    grid_codes: tuple[str, ...] = ()
    """Patterns as `MGRS-33T*`."""
    max_cloud: float | None = None
    """Percent, as catalogues state `eo:cloud_cover`; an item that states none is found."""
    max_nodata: float | None = None
    """Percent, as catalogues state it; an item that states none is found."""
    changed_in: Literal["updated", "created"] | None = None
    """Which time of the document `changed_since` is held against."""
    changed_since: datetime | None = None
    least_cloudy_first: bool = False
    max_items: int | None = None


def matching(
    items: Iterable[Item], query: Query, left_out: LeftOut, *, sort: bool = True
) -> Iterator[Item]:
    """Give the items that match, in the order of the source or the least cloudy first.

    Args:
        items: As a source gives them.
        query: What is looked for.
        left_out: Takes those of which that cannot be told, or which no search can use.
        sort: Whether the source does not sort itself.

    Raises:
        CatalogError: A time of the query is none.
    """
    found = _filtered(items, query, left_out)
    if query.least_cloudy_first and sort:
        found = iter(sorted(found, key=_cloudiness))
    return islice(found, query.max_items)


def sides(bbox: BBox) -> list[BBox]:
    """Divide a box that crosses the antimeridian in two; another is its only side."""
    west, south, east, north = bbox
    if west <= east:
        return [bbox]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def interval(period: str | None) -> tuple[datetime, datetime]:
    """Give both ends of a period; a date stands for its whole day.

    Raises:
        CatalogError: An end is no time.
    """
    first, _, last = (period or "../..").partition("/")
    last = last or first
    start = datetime.min.replace(tzinfo=UTC) if first in ("", "..") else read_time(first)
    if last in ("", ".."):
        return start, datetime.max.replace(tzinfo=UTC)
    whole_day = (
        timedelta(days=1, microseconds=-1) if len(last) == len("2020-01-01") else timedelta()
    )
    return start, read_time(last) + whole_day


def query_area(query: Query) -> Polygon | MultiPolygon | None:
    """Give the area of a query, divided at the antimeridian; None: everywhere."""
    if query.bbox:
        return MultiPolygon([box(*side) for side in sides(query.bbox)])
    return query.area


def _filtered(items: Iterable[Item], query: Query, left_out: LeftOut) -> Iterator[Item]:
    period = interval(query.period)
    area = query_area(query)
    if area is not None:
        shapely.prepare(area)
    for number, item in enumerate(items, 1):
        if not has_id(item):
            left_out.add(f"number {number} of an answer", reason_without_id(item))
            continue
        try:
            if _is_wanted(item, query, period, area):
                yield item
        except UNREADABLE as err:
            left_out.add(item["id"], reason(err))


def _is_wanted(
    item: Item,
    query: Query,
    period: tuple[datetime, datetime],
    area: Polygon | MultiPolygon | None,
) -> bool:
    """Tell whether an item matches; of one that does, all is read that a choice needs."""
    said = properties(item)
    return (
        _is_named(item, query)
        and _is_clear(item, query)
        and _overlaps(said, *period)
        and _has_changed(said, query)
        and (area is None or _lies_in(item, area))
        and bool(read_candidate(item, tile=""))
    )


def has_id(item: object) -> bool:
    """Tell whether this is an item that can be named: JSON may hold text that is no Unicode."""
    name = cast("Item", item).get("id") if isinstance(item, dict) else None
    return isinstance(name, str) and bool(name) and name.isprintable()


def reason_without_id(item: object) -> str:
    """Say what is wrong with what cannot be named."""
    return f"it has no usable id ({unsigned(item)!r:.80})"


def _is_named(item: Item, query: Query) -> bool:
    return (
        (not query.ids or item["id"] in query.ids)
        and (not query.collections or item.get("collection") in (None, *query.collections))
        and (not query.grid_codes or _is_in_grid(item, query.grid_codes))
    )


def _is_in_grid(item: Item, patterns: tuple[str, ...]) -> bool:
    code = grid_of(item)
    return code is not None and any(fnmatchcase(code, pattern) for pattern in patterns)


def _is_clear(item: Item, query: Query) -> bool:
    cloud, nodata = percent(properties(item), "eo:cloud_cover"), nodata_of(item)
    return (query.max_cloud is None or cloud is None or cloud <= query.max_cloud) and (
        query.max_nodata is None or nodata is None or nodata <= query.max_nodata
    )


def _lies_in(item: Item, area: Polygon | MultiPolygon) -> bool:
    outline = read_outline(item)
    return outline is not None and area.intersects(outline)


def _overlaps(said: Mapping[str, Any], start: datetime, end: datetime) -> bool:
    first = said.get("start_datetime") or said.get("datetime")
    last = said.get("end_datetime") or said.get("datetime")
    return first is None or last is None or (read_time(first) <= end and read_time(last) >= start)


def _has_changed(said: Mapping[str, Any], query: Query) -> bool:
    if query.changed_in is None or query.changed_since is None:
        return True
    changed = said.get(query.changed_in)
    return changed is None or read_time(changed) >= query.changed_since


def _cloudiness(item: Item) -> float:
    cloud = percent(properties(item), "eo:cloud_cover")
    return float("inf") if cloud is None else cloud
