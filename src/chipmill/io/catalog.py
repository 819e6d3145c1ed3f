"""Find STAC items: in an API, a static catalogue, an ItemCollection, stac-geoparquet, a folder.

All answer the same query. What a source cannot filter itself is filtered here.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

import httpx
import pystac
import stac_geoparquet.arrow
from pyarrow import parquet
from pystac.errors import STACError, STACTypeError
from pystac_client import Client
from pystac_client.exceptions import APIError
from shapely import MultiPolygon, box
from shapely.geometry import shape

from chipmill.errors import CatalogError, ChipmillError
from chipmill.io.folder import folder_items, is_folder
from chipmill.io.source import open_source
from chipmill.model.scene import BBox

log = logging.getLogger(__name__)

Item = dict[str, Any]
"""A STAC item as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for; what is None or empty does not restrict."""

    collections: tuple[str, ...] = ()
    bbox: BBox | None = None
    period: str | None = None
    """Interval of two RFC 3339 times or dates, `start/end`; `..` leaves an end open."""
    ids: tuple[str, ...] = ()
    max_cloud: float | None = None
    """Percent, as catalogues state `eo:cloud_cover`."""


def find_items(catalog: str, query: Query) -> Iterator[Item]:
    """Find items, hrefs absolute, in the order of the source.

    Args:
        catalog: URL or path of a STAC API, a static catalogue, an ItemCollection (or a plain list
            of items) as JSON, a stac-geoparquet file, or a folder of GeoTIFFs.
        query: What is looked for.

    Raises:
        CatalogError: The source cannot be reached or is none of these.
    """
    url = catalog if "://" in catalog else Path(catalog).expanduser().resolve().as_uri()
    try:
        path = urlsplit(url).path
    except ValueError as err:
        raise CatalogError(f"{url} is not the URL of a catalogue ({err}); check it") from err
    if is_folder(url):
        return _matching(folder_items(url), query)
    if path.endswith((".parquet", ".geoparquet")):
        return _matching(_geoparquet(url), query)
    match document := _json(url):
        case {"conformsTo": list()}:
            return _matching(_api(url, query), query)
        case {"type": "Catalog" | "Collection"}:
            return _matching(_static(url), query)
        case _:
            return _matching(_collection(url, document), query)


def _api(url: str, query: Query) -> Iterator[Item]:
    """Ask a STAC API; it filters by everything but the cloud cover, which is an extension."""
    told = set[str]()
    try:
        client = Client.open(url)
        # Not every server reads west > east as a box across the antimeridian: ask for its sides.
        for side in _sides(query.bbox) if query.bbox else [None]:
            search = client.search(
                collections=list(query.collections) or None,
                bbox=side,
                datetime=query.period,
                ids=list(query.ids) or None,
                limit=100,
            )
            for item in search.items_as_dicts():
                if item["id"] not in told:
                    told.add(item["id"])
                    yield _joined(item, url)
    except (APIError, STACError, OSError, ValueError, KeyError) as err:
        raise CatalogError(f"the STAC API {url} did not answer the search ({err})") from err


def _sides(bbox: BBox) -> list[BBox]:
    """Divide a box that crosses the antimeridian in two; another is its only side."""
    west, south, east, north = bbox
    if west <= east:
        return [bbox]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _static(url: str) -> Iterator[Item]:
    try:
        for item in pystac.Catalog.from_file(url).get_items(recursive=True):
            yield _absolute(item)
    except (STACError, STACTypeError, OSError, ValueError) as err:
        raise CatalogError(f"the static catalogue {url} cannot be read ({err})") from err


def _collection(url: str, document: object) -> Iterator[Item]:
    match document:
        case {"type": "FeatureCollection", "features": list()}:
            found = cast("Mapping[str, list[Item]]", document)["features"]
        case {"type": "Feature"}:
            found = [cast("Item", document)]
        case list():
            found = cast("list[Item]", document)
        case _:
            raise CatalogError(
                f"{url} is neither a STAC API, a catalogue, an ItemCollection nor stac-geoparquet"
            )
    for item in found:
        yield _joined(item, url)


def _geoparquet(url: str) -> Iterator[Item]:
    try:
        table = parquet.read_table(BytesIO(_bytes(url)))
        items = cast("Iterator[Item]", stac_geoparquet.arrow.stac_table_to_items(table))
        for item in items:
            yield _joined(item, url)
    except (OSError, ValueError, KeyError) as err:
        raise CatalogError(f"{url} cannot be read as stac-geoparquet ({err})") from err


def _absolute(item: pystac.Item) -> Item:
    item.make_asset_hrefs_absolute()
    return item.to_dict(transform_hrefs=False)


def _joined(item: Item, url: str) -> Item:
    """Make hrefs absolute that are relative to the document that was read."""
    if not _has_id(item):
        return item
    given = cast("Mapping[str, Item]", item.get("assets") or {})
    assets = {
        key: {**asset, "href": _join(url, str(asset.get("href", "")))}
        for key, asset in given.items()
    }
    return {**item, "assets": assets}


def _join(url: str, href: str) -> str:
    """Join as `urljoin` does, also where it does not know the scheme, as s3."""
    if "://" in href:
        return href
    scheme, _, place = url.partition("://")
    return scheme + urljoin(f"file://{place}", href).removeprefix("file")


def _json(url: str) -> object:
    try:
        return json.loads(_bytes(url))
    except ValueError as err:
        raise CatalogError(f"{url} is not JSON ({err}); is it the address of a catalogue?") from err


def _bytes(url: str) -> bytes:
    try:
        with open_source(url) as source:
            return b"".join(source.pieces)
    except (ChipmillError, httpx.HTTPError) as err:
        raise CatalogError(f"the catalogue {url} cannot be reached: {err}") from err


def _matching(items: Iterable[Item], query: Query) -> Iterator[Item]:
    start, end = _interval(query.period)
    area = MultiPolygon([box(*side) for side in _sides(query.bbox)]) if query.bbox else None
    for item in items:
        if not _has_id(item):
            log.warning("an item without a usable id is left out: %.80r", item)
            continue
        properties = cast("Item", item.get("properties") or {})
        cloud = cast("float | None", properties.get("eo:cloud_cover"))
        if (
            (not query.ids or item["id"] in query.ids)
            and (not query.collections or item.get("collection") in (None, *query.collections))
            and (query.max_cloud is None or cloud is None or cloud <= query.max_cloud)
            and _overlaps(properties, start, end)
            and (area is None or _lies_in(item, area))
        ):
            yield item


def _has_id(item: object) -> bool:
    """Tell whether this is an item that can be named: JSON may hold text that is no Unicode."""
    name = cast("Item", item).get("id") if isinstance(item, dict) else None
    return isinstance(name, str) and bool(name) and name.isprintable()


def _lies_in(item: Item, area: MultiPolygon) -> bool:
    geometry = item.get("geometry")  # STAC allows null
    return geometry is not None and shape(geometry).intersects(area)


def _overlaps(properties: Mapping[str, Any], start: datetime, end: datetime) -> bool:
    first = properties.get("start_datetime") or properties.get("datetime")
    last = properties.get("end_datetime") or properties.get("datetime")
    return first is None or last is None or (_time(first) <= end and _time(last) >= start)


def _interval(period: str | None) -> tuple[datetime, datetime]:
    """Give both ends of a period; a date stands for its whole day."""
    first, _, last = (period or "../..").partition("/")
    last = last or first
    start = datetime.min.replace(tzinfo=UTC) if first in ("", "..") else _time(first)
    if last in ("", ".."):
        return start, datetime.max.replace(tzinfo=UTC)
    whole_day = (
        timedelta(days=1, microseconds=-1) if len(last) == len("2020-01-01") else timedelta()
    )
    return start, _time(last) + whole_day


def _time(text: object) -> datetime:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError as err:
        raise CatalogError(f"{text!r} is not a time as RFC 3339 has it") from err
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
