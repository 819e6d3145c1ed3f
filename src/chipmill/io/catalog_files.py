"""Catalogues that are files: static ones, ItemCollections, JSON lines, stac-geoparquet."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from io import BytesIO
from typing import Any, cast
from urllib.parse import urljoin

import pyarrow as pa
import stac_geoparquet.arrow
from pyarrow import parquet
from shapely.errors import ShapelyError

from chipmill.errors import CatalogError
from chipmill.formats.item_reading import BROKEN
from chipmill.formats.signature import said
from chipmill.io.catalog_query import Item, has_id, reason_without_id
from chipmill.io.documents import Documents, parsed
from chipmill.io.left_out import LeftOut


def static_items(url: str, root: object, documents: Documents, left_out: LeftOut) -> Iterator[Item]:
    """Walk through a static catalogue: the items of each document, then those below it.

    Args:
        url: Of its root, a Catalog or a Collection.
        root: Its root.
        documents: Reads the others.
        left_out: Takes the items that are no STAC items.

    Raises:
        CatalogError: A document of it is missing, or is not STAC; or it is a part of an API.
        TransientError: Its server does not answer, after several tries.
    """
    begun = {url}
    todo = [(url, root)]
    while todo:
        at, document = todo.pop()
        if document is None:
            document = parsed(at, partial(documents.read, at))
        items, below = _links(at, document)
        for href in items:
            yield from _one_item(href, documents.read(href), left_out)
        new = [href for href in below if href not in begun]
        begun.update(new)
        todo += [(href, None) for href in reversed(new)]


def _links(url: str, document: object) -> tuple[list[str], list[str]]:
    """Give the addresses of the items of a static catalogue, and of the catalogues below it."""
    links = cast("Mapping[str, Any]", document).get("links") if isinstance(document, dict) else None
    if not isinstance(links, list):
        raise CatalogError(f"the static catalogue {said(url)} cannot be read (it has no links)")
    found: dict[str, list[str]] = {"item": [], "child": [], "items": [], "root": []}
    for link in cast("list[object]", links):
        match link:
            case {"rel": str(rel), "href": str(href)} if rel in found:
                found[rel].append(_join(url, href))
            case _:
                pass
    if found["items"] and not (found["item"] or found["child"]):
        root = f", {said(found['root'][0])}," if found["root"] else ""
        raise CatalogError(
            f"{said(url)} is a collection of a STAC API; name the API's root{root} as the catalogue"
        )
    return found["item"], found["child"]


def _one_item(url: str, data: bytes, left_out: LeftOut) -> Iterator[Item]:
    try:
        item = json.loads(data)
    except (ValueError, RecursionError) as err:
        left_out.add(said(url), f"it is not JSON ({err})")
        return
    if has_id(item):
        yield _joined(item, url)
    else:
        left_out.add(said(url), reason_without_id(item))


def collection_items(url: str, document: object) -> Iterator[Item]:
    """Give the items of an ItemCollection, a single item, or a plain list of items.

    Raises:
        CatalogError: The document is none of these.
    """
    match document:
        case {"type": "FeatureCollection", "features": list()}:
            found = cast("Mapping[str, list[Item]]", document)["features"]
        case {"type": "Feature"}:
            found = [cast("Item", document)]
        case list():
            found = cast("list[Item]", document)
        case _:
            raise CatalogError(
                f"{said(url)} is neither a STAC API, a catalogue, an ItemCollection nor "
                "stac-geoparquet"
            )
    for item in found:
        yield _joined(item, url)


def line_items(url: str, data: bytes) -> Iterator[Item]:
    """Give the items of JSON lines, which may be compressed by zstd.

    Raises:
        CatalogError: A line is no JSON, or the compression is broken.
    """
    try:
        if url.endswith(".zst"):
            with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
                data = stream.read()
        for line in data.splitlines():
            if line.strip():
                yield _joined(json.loads(line), url)
    except (ValueError, OSError, RecursionError) as err:
        raise CatalogError(f"{said(url)} cannot be read as items in JSON lines ({err})") from err


def geoparquet_items(url: str, data: bytes) -> Iterator[Item]:
    """Give the items of a stac-geoparquet file.

    Raises:
        CatalogError: It is none.
    """
    try:
        table = parquet.read_table(BytesIO(data))
        items = cast("Iterator[Item]", stac_geoparquet.arrow.stac_table_to_items(table))
        for item in items:
            yield _joined(item, url)
    except (*BROKEN, OSError, ShapelyError) as err:
        raise CatalogError(f"{said(url)} cannot be read as stac-geoparquet ({err})") from err


def _joined(item: Item, url: str) -> Item:
    """Make hrefs absolute that are relative to the document that was read."""
    given = item.get("assets") if has_id(item) else None
    if not isinstance(given, dict):
        return item
    assets = {
        key: _joined_asset(asset, url) for key, asset in cast("Mapping[str, object]", given).items()
    }
    return {**item, "assets": assets}


def _joined_asset(asset: object, url: str) -> object:
    """Join the href of an asset; what is none is left as it is, for the copy to judge."""
    match asset:
        case {"href": str(href)}:
            return {**cast("Item", asset), "href": _join(url, href)}
        case _:
            return asset


def _join(url: str, href: str) -> str:
    """Join as `urljoin` does, also where it does not know the scheme, as s3."""
    if "://" in href:
        return href
    scheme, _, place = url.partition("://")
    try:
        return scheme + urljoin(f"file://{place}", href).removeprefix("file")
    except ValueError:  # no place that any URL could name
        return href
