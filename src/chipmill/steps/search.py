"""search: a catalogue's scenes, kept in the archive as the catalogue gave them."""

import json
import logging
from itertools import islice

from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.signature import unsigned
from chipmill.io.catalog import Query, find_items
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensor

log = logging.getLogger(__name__)


def search_scenes(request: IngestRequest, archive: Store) -> list[SceneRef]:
    """Find the scenes that a request asks for and keep their documents.

    Returns:
        The scenes, sorted by id; at most `request.limit`.

    Raises:
        RequestError: The sensor or a band is unknown, or nothing matches.
        CatalogError: The catalogue cannot be read.
    """
    kind = sensor(request.sensor)
    if kind.bands:
        kind.wanted(request.bands)
    if kind.quality:
        kind.quality.counting(request.cloud_classes)
    query = Query(
        collections=kind.collections,
        bbox=request.bbox,
        period=request.period,
        ids=request.ids,
        max_cloud=request.max_cloud,
    )
    found = {item["id"]: item for item in islice(find_items(request.catalog, query), request.limit)}
    if not found:
        raise RequestError(
            f"no {request.sensor} scene in {request.catalog} matches {_words(query)}; widen the "
            "request"
        )
    for item_id, item in found.items():
        archive.put(layout.source_item_key(kind.name, item_id), json.dumps(unsigned(item)).encode())
    log.info("found %d %s scenes in %s", len(found), kind.name, request.catalog)
    return [SceneRef(collection=kind.name, item=item_id) for item_id in sorted(found)]


def _words(query: Query) -> str:
    """Say a query in words."""
    said = [
        f"bbox {query.bbox}" if query.bbox else "",
        f"period {query.period}" if query.period else "",
        f"ids {', '.join(query.ids)}" if query.ids else "",
        f"cloud <= {query.max_cloud} %" if query.max_cloud is not None else "",
    ]
    return ", ".join(part for part in said if part) or f"collections {', '.join(query.collections)}"
