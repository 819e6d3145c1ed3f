"""Catalogues that are files: static ones, ItemCollections, JSON lines, stac-geoparquet."""

import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, cast
from urllib.parse import urljoin

import pyarrow as pa
import pystac
import stac_geoparquet.arrow
from pyarrow import parquet
from pystac.errors import STACError, STACTypeError
from pystac.stac_io import DefaultStacIO

from chipmill.errors import CatalogError
from chipmill.formats.signature import said
from chipmill.io.catalog_query import Item, has_id
from chipmill.io.documents import Documents


def static_items(url: str, documents: Documents) -> Iterator[Item]:
    """Walk through a static catalogue.

    Raises:
        CatalogError: A document of it is missing, or is not STAC.
        TransientError: Its server does not answer, after several tries.
    """
    try:
        root = pystac.Catalog.from_file(url, stac_io=_Reading(documents))
        for item in root.get_items(recursive=True):
            item.make_asset_hrefs_absolute()
            yield item.to_dict(transform_hrefs=False)
    except (STACError, STACTypeError, OSError, ValueError, KeyError) as err:
        raise CatalogError(f"the static catalogue {said(url)} cannot be read ({err})") from err


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
    except (ValueError, OSError) as err:
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
    except (OSError, ValueError, KeyError) as err:
        raise CatalogError(f"{said(url)} cannot be read as stac-geoparquet ({err})") from err


class _Reading(DefaultStacIO):
    """Lets pystac read through the same tries and pace as all else."""

    def __init__(self, documents: Documents) -> None:
        super().__init__()
        self._documents = documents

    def read_text_from_href(self, href: str) -> str:
        url = href if "://" in href else f"file://{href}"
        return self._documents.read(url).decode()


def _joined(item: Item, url: str) -> Item:
    """Make hrefs absolute that are relative to the document that was read."""
    if not has_id(item):
        return item
    given = cast("Mapping[str, Any]", item.get("assets") or {})
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
