"""Search one tile: all that matches, or what changed since an earlier search."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from chipmill.formats.candidate import read_candidate
from chipmill.formats.scene_list import Packed, pack_item
from chipmill.io.catalog import Catalog, Item, Query
from chipmill.model.acquisition import Candidate
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.policy import choose_scenes
from chipmill.model.tile import Tile

log = logging.getLogger(__name__)

IDS = 100
"""Ids of one query; servers limit the length of a request."""
OVERLAP = timedelta(days=1)
"""A catalogue may show a document some time after it has stamped it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFound:
    """What the search of one tile found."""

    candidates: tuple[Candidate, ...]
    """All that matched."""
    documents: Mapping[str, Packed]
    """Of those that the policy takes, by id."""
    is_cut: bool = False
    """Whether the catalogue has more than was read."""


def search_tile(
    tile: Tile,
    request: IngestRequest,
    *,
    catalog: Catalog,
    collections: tuple[str, ...],
    again: bool = False,
) -> TileFound:
    """Search all that matches in a tile.

    Args:
        tile: The tile.
        request: What is looked for.
        catalog: Where.
        collections: In which of its collections.
        again: Whether there is an earlier list: then the limit holds for what is new of all that
            matches, and does not shorten what is read.

    Raises:
        CatalogError: The catalogue does not answer the search.
        TransientError: It does not answer now.
    """
    query = tile_query(tile, request, collections)
    most = query.max_items
    takes_all = request.policy.keep == "everything" and not request.policy.years
    if most is None and takes_all and not again:
        most = request.limit
    read = list(catalog.find(replace(query, max_items=most + 1 if most else None)))
    found = {str(item["id"]): item for item in read[:most]}
    candidates = [read_candidate(item, tile=tile.name) for item in found.values()]
    chosen = {each.id for each in choose(candidates, request)}
    return TileFound(
        candidates=tuple(candidates),
        documents=_packed({name: found[name] for name in found if name in chosen}, catalog),
        is_cut=most is not None and len(read) > most,
    )


def refresh_tile(
    tile: Tile,
    request: IngestRequest,
    earlier: Sequence[Candidate],
    *,
    catalog: Catalog,
    query: Query,
) -> TileFound:
    """Search what changed in a tile, and look whether what is chosen is still there.

    Args:
        tile: The tile.
        request: The same as before.
        earlier: All that matched before.
        catalog: One that tells changes.
        query: What is looked for, with `changed_since`.

    Raises:
        CatalogError: The catalogue does not answer the search.
        TransientError: It does not answer now.
    """
    changed = list(catalog.find(replace(query, max_items=None)))
    documents = {str(item["id"]): item for item in changed}
    known = {each.id: each for each in earlier}
    known |= {name: read_candidate(item, tile=tile.name) for name, item in documents.items()}
    while True:
        chosen = {each.id for each in choose(known.values(), request)}
        if not (unread := chosen - documents.keys()):
            break
        there = present(catalog, unread, collections=query.collections)
        documents |= there
        # What changes while it is looked at is taken as it is now.
        known |= {name: read_candidate(item, tile=tile.name) for name, item in there.items()}
        for name in unread - there.keys():
            log.warning("scene %s is no longer in %s", name, catalog.url)
            del known[name]
    return TileFound(
        candidates=tuple(known.values()),
        documents=_packed({name: documents[name] for name in chosen}, catalog),
    )


def tile_query(tile: Tile, request: IngestRequest, collections: tuple[str, ...]) -> Query:
    """Say what is looked for in a tile."""
    return Query(
        collections=collections,
        bbox=request.bbox,
        area=tile.area,
        period=request.period,
        ids=request.ids,
        grid_codes=tile.grid_codes or request.grid_codes,
        max_cloud=request.max_cloud,
        max_nodata=request.max_nodata,
        least_cloudy_first=request.policy.keep == "least_cloudy",
        max_items=request.policy.max_items,
    )


def changes_by(candidates: Iterable[Candidate]) -> Literal["updated", "created"] | None:
    """Tell which time of its documents a catalogue states throughout; None: neither."""
    every = list(candidates)
    if every and all(each.updated for each in every):
        return "updated"
    return "created" if every and all(each.created for each in every) else None


def since(searched: datetime) -> datetime:
    """Tell from when on documents may be unknown to an earlier search."""
    return searched - OVERLAP


def present(
    catalog: Catalog, names: Iterable[str], *, collections: tuple[str, ...]
) -> dict[str, Item]:
    """Find documents by their ids, whatever else they say."""
    found: dict[str, Item] = {}
    for some in _some_at_a_time(sorted(names)):
        query = Query(ids=tuple(some), collections=collections)
        found |= {str(item["id"]): item for item in catalog.find(query)}
    return found


def choose(candidates: Iterable[Candidate], request: IngestRequest) -> tuple[Candidate, ...]:
    """Choose by the policy and the limits of a request."""
    return choose_scenes(
        candidates, request.policy, max_cloud=request.max_cloud, max_nodata=request.max_nodata
    ).kept


def _packed(items: Mapping[str, Item], catalog: Catalog) -> dict[str, Packed]:
    packed = dict[str, Packed]()
    for name, item in items.items():
        try:
            packed[name] = pack_item(item)
        except RecursionError:
            catalog.left_out.add(name, "it nests deeper than any STAC item")
    return packed


def _some_at_a_time(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), IDS):
        yield names[start : start + IDS]
