"""Find STAC items: in an API, a static catalogue, a file of items, a folder of GeoTIFFs.

All answer the same query. What a source cannot filter itself is filtered here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from chipmill.errors import CatalogError
from chipmill.formats.signature import said
from chipmill.io.catalog_api import Api
from chipmill.io.catalog_files import (
    collection_items,
    geoparquet_items,
    line_items,
    static_items,
)
from chipmill.io.catalog_listed import Listed
from chipmill.io.catalog_query import Item, Query
from chipmill.io.documents import Documents, address, parsed
from chipmill.io.folder import folder_items, is_folder
from chipmill.io.left_out import LeftOut
from chipmill.model.access import Access, is_local
from chipmill.settings import Settings

__all__ = ["Catalog", "Item", "Query", "find_items", "open_catalog"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """A catalogue that is open; many threads may ask it at once."""

    url: str
    find: Callable[[Query], Iterator[Item]]
    """Gives items, hrefs absolute, the least cloudy first where the query says so and else in the
    order of the source; raises CatalogError and TransientError."""
    tells_changes: bool
    """Whether it can be asked for what has changed since a time without reading all of it."""
    left_out: LeftOut
    """The items that could not be judged so far."""


def find_items(catalog: str, query: Query) -> Iterator[Item]:
    """Find items, hrefs absolute, in the order of the source; the settings say what it may reach.

    Args:
        catalog: URL or path of a STAC API, a static catalogue, an ItemCollection (or a plain list
            of items) as JSON, items as JSON lines, a stac-geoparquet file, or a folder of GeoTIFFs.
        query: What is looked for.

    Raises:
        CatalogError: The source cannot be reached or is none of these.
        TransientError: Its server does not answer, after several tries.
    """
    rules = Access.of(Settings.load(), local=is_local(catalog))
    with Documents(catalog, access=rules) as documents:
        yield from open_catalog(catalog, documents).find(query)


def open_catalog(catalog: str, documents: Documents) -> Catalog:
    """Open a catalogue: what is a file or a tree of files is read once.

    Args:
        catalog: URL or path.
        documents: Reads for it, as long as it is used.

    Raises:
        CatalogError: It cannot be reached, or is none.
        TransientError: Its server does not answer, after several tries.
    """
    url = _url(catalog)
    left_out = LeftOut()
    path = urlsplit(url).path
    if is_folder(url):
        items = folder_items(url)
    elif path.endswith((".parquet", ".geoparquet")):
        items = geoparquet_items(url, documents.read(url))
    elif path.endswith((".jsonl", ".ndjson", ".jsonl.zst", ".ndjson.zst")):
        items = line_items(url, documents.read(url))
    else:
        match document := parsed(url, partial(documents.read, url)):
            case {"conformsTo": list()}:
                landing = cast("Mapping[str, Any]", document)
                api = Api(url, landing, documents, left_out)
                return Catalog(
                    url=api.url, find=api.find, tells_changes=api.filters, left_out=left_out
                )
            case {"type": "Catalog" | "Collection"}:
                items = static_items(url, document, documents, left_out)
            case _:
                items = collection_items(url, document)
    listed = Listed(items, left_out)
    return Catalog(url=said(url), find=listed.find, tells_changes=False, left_out=left_out)


def _url(catalog: str) -> str:
    url = address(catalog)
    try:
        urlsplit(url)
    except ValueError as err:
        raise CatalogError(f"{said(url)} is not the URL of a catalogue ({err}); check it") from err
    return url
