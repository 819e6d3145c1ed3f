"""search: a catalogue's scenes, chosen and frozen as a list that can be had again without it."""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from chipmill.errors import CatalogError, RequestError, TransientError
from chipmill.formats.scene_list import Match, Packed, item_digest, unpack_item
from chipmill.io.catalog import Catalog, open_catalog
from chipmill.io.documents import Documents
from chipmill.io.store import Store
from chipmill.model.acquisition import Candidate, acquisition
from chipmill.model.changes import Changes, Taken, changes
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.policy import choose_scenes, first_scenes
from chipmill.model.scene import SceneRef
from chipmill.model.tile import Tile
from chipmill.sensors import sensor
from chipmill.steps.area import find_tiles, request_words, search_parts
from chipmill.steps.scene_list import (
    Frozen,
    Result,
    freeze,
    keep_documents,
    load_frozen,
    read_documents,
)
from chipmill.steps.tile_search import (
    TileFound,
    changes_by,
    present,
    refresh_tile,
    search_tile,
    since,
    tile_query,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What all tiles gave."""

    candidates: list[Candidate] = field(default_factory=list[Candidate])
    documents: dict[str, Packed] = field(default_factory=dict[str, Packed])
    failed: dict[str, str] = field(default_factory=dict[str, str])


def search_scenes(
    request: IngestRequest, archive: Store, *, at_once: int = 8, rate: float = 10
) -> list[SceneRef]:
    """Find the scenes that a request asks for, freeze the list, and keep their documents.

    A request that was searched before gives the same scenes without the catalogue, unless it says
    `refresh`; tiles that failed then are searched again.

    Args:
        request: Which scenes.
        archive: Where the list and the documents are kept.
        at_once: Tiles that are searched side by side.
        rate: HTTP requests a second that are sent at most, over all tiles.

    Returns:
        The scenes, sorted by id; at most `request.limit`.

    Raises:
        RequestError: The sensor or a band is unknown, a file of tiles cannot be used, or nothing
            matches.
        CatalogError: The catalogue cannot be read.
        TransientError: It does not answer, after several tries.
    """
    kind = sensor(request.sensor)
    if kind.bands:
        kind.wanted(request.bands)
    if kind.quality:
        kind.quality.counting(request.cloud_classes)
    with Documents(rate=rate) as documents:
        tiles = find_tiles(request, documents)
        parts = search_parts(request, tiles, kind.collections)
        frozen = load_frozen(archive, parts)
        if frozen and not request.refresh and not frozen.document.failed:
            log.info("the list %s has them already", frozen.document.search)
        else:
            catalog = open_catalog(request.catalog, documents)
            todo = _Todo(request, tiles, catalog, frozen, kind.collections, at_once)
            result = _result(todo, _search(todo, archive))
            frozen = freeze(archive, parts, result, previous=frozen)
    keep_documents(archive, kind.name, frozen)
    taken = sorted(match.candidate.id for match in frozen.matches if match.taken)
    log.info("found %d %s scenes in %s", len(taken), kind.name, request.catalog)
    return [SceneRef(collection=kind.name, item=name) for name in dict.fromkeys(taken)]


@dataclass(frozen=True, slots=True)
class _Todo:
    """A search that is under way."""

    request: IngestRequest
    tiles: Sequence[Tile]
    catalog: Catalog
    before: Frozen | None
    collections: tuple[str, ...]
    at_once: int

    def needs(self, tile: Tile) -> bool:
        """Tell whether a tile is to be searched now."""
        before = self.before
        return self.request.refresh or not before or tile.name in before.document.failed

    def earlier(self, tile: Tile) -> list[Candidate]:
        """Give what matched in a tile before."""
        matches = self.before.matches if self.before else ()
        every = (match.candidate for match in matches)
        return [each for each in every if tile.is_whole_area or each.tile == tile.name]


def _search(todo: _Todo, archive: Store) -> _Found:
    """Search all tiles that need it, side by side; one that fails, fails alone."""
    before = todo.before
    wanted = [tile for tile in todo.tiles if todo.needs(tile)]
    found = _Found()
    for tile in todo.tiles:
        if not todo.needs(tile):
            found.candidates.extend(todo.earlier(tile))
    with ThreadPoolExecutor(todo.at_once) as pool:
        searches = [(tile, pool.submit(_search_one, tile, todo)) for tile in wanted]
        for tile, search in searches:
            try:
                _add(found, search.result(), tile, todo.request)
            except (CatalogError, TransientError) as err:
                if len(todo.tiles) == 1:
                    raise
                log.warning("tile %s is not searched: %s", tile.name, err)
                found.failed[tile.name] = str(err)
                found.candidates.extend(todo.earlier(tile))
    if len(found.failed) == len(todo.tiles):
        raise CatalogError(f"no tile could be searched: {next(iter(found.failed.values()))}")
    if before and (found.failed or len(wanted) < len(todo.tiles)):
        earlier = read_documents(archive, before.document)
        found.documents.update({**earlier, **found.documents})
    return found


def _search_one(tile: Tile, todo: _Todo) -> TileFound:
    """Search a tile: what is new where the catalogue can tell, else all of it."""
    earlier = todo.earlier(tile)
    stamp = changes_by(earlier)
    before = todo.before
    if before and stamp and todo.catalog.tells_changes and tile.name not in before.document.failed:
        query = replace(
            tile_query(tile, todo.request, todo.collections),
            changed_in=stamp,
            changed_since=since(before.document.searched),
        )
        return refresh_tile(tile, todo.request, earlier, catalog=todo.catalog, query=query)
    return search_tile(tile, todo.request, catalog=todo.catalog, collections=todo.collections)


def _add(found: _Found, one: TileFound, tile: Tile, request: IngestRequest) -> None:
    found.candidates.extend(one.candidates)
    found.documents.update(one.documents)
    if one.is_cut:
        log.warning(
            "%s has more in %s than the %d items that were read; ask for less, or raise limit",
            request.catalog,
            f"tile {tile.name}" if tile.name else "this area",
            len(one.candidates),
        )


def _result(todo: _Todo, found: _Found) -> Result:
    """Choose among all that was found, and say what became of the rest."""
    request = todo.request
    chosen = choose_scenes(
        found.candidates,
        request.policy,
        max_cloud=request.max_cloud,
        max_nodata=request.max_nodata,
    )
    once = {each.id: each for each in reversed(chosen.kept)}
    first = first_scenes(list(once.values()), request.policy, limit=request.limit)
    taken = {each.id for each in first if each.id in found.documents}
    if not taken:
        raise RequestError(
            f"no {request.sensor} scene in {request.catalog} matches {request_words(request)}; "
            "widen the request"
        )
    left_out = dict(chosen.left_out)
    if over := len(once) - len(first):
        log.warning("%d scenes are left out by the limit of %d", over, request.limit)
        left_out["limit"] = over
    documents = {name: found.documents[name] for name in taken}
    digests = {name: item_digest(unpack_item(packed)) for name, packed in documents.items()}
    matches = [
        Match(
            candidate=each,
            taken=each.id in taken,
            newer_version=chosen.duplicates.get(each.id),
            digest=digests.get(each.id),
        )
        for each in found.candidates
    ]
    return Result(
        documents=documents,
        matches=matches,
        left_out=left_out,
        duplicates=len(chosen.duplicates),
        failed=found.failed,
        tiles=len(todo.tiles),
        searched=datetime.now(UTC),
        changes=_changes(todo, matches) if request.refresh and todo.before else None,
    )


def _changes(todo: _Todo, matches: Sequence[Match]) -> Changes:
    before, now = (_taken(each) for each in (todo.before.matches if todo.before else (), matches))
    listed = {match.candidate.id for match in matches}
    # Who is out of sight may only have become cloudier than the request allows.
    listed |= present(todo.catalog, before.keys() - listed, collections=todo.collections).keys()
    found = changes(before, now, listed=listed)
    log.info(
        "since the last search: %d new, %d reprocessed, %d withdrawn, %d no longer chosen",
        *(len(each) for each in (found.new, found.reprocessed, found.withdrawn, found.left_out)),
    )
    return found


def _taken(matches: Iterable[Match]) -> dict[str, Taken]:
    return {
        match.candidate.id: Taken(
            acquisition=acquisition(match.candidate), digest=match.digest or ""
        )
        for match in matches
        if match.taken
    }
