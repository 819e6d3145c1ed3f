"""sweep: search all tiles of a request, side by side."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

from chipmill.errors import CatalogError, TransientError
from chipmill.formats.scene_list import Packed
from chipmill.formats.signature import said
from chipmill.io.catalog import Catalog
from chipmill.io.store import Store
from chipmill.model.acquisition import Candidate
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.tile import Tile
from chipmill.steps.scene_list import Frozen, read_documents
from chipmill.steps.tile_search import (
    TileFound,
    changes_by,
    refresh_tile,
    search_tile,
    since,
    tile_query,
)

log = logging.getLogger(__name__)

EACH_TOLD = 100
"""So many tiles a line of the log: thousands of them take minutes."""
GIVE_UP = 20
"""When so many tiles failed and none was found, the catalogue is asked no more: each failure takes
minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What all tiles gave."""

    candidates: list[Candidate] = field(default_factory=list[Candidate])
    documents: dict[str, Packed] = field(default_factory=dict[str, Packed])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    cut: list[str] = field(default_factory=list[str])
    """Tiles of which the limit left something unread."""


@dataclass(frozen=True)  # without slots, for what it keeps
class Todo:
    """A search that is under way."""

    request: IngestRequest
    tiles: Sequence[Tile]
    catalog: Catalog
    before: Frozen | None
    collections: tuple[str, ...]
    at_once: int

    @cached_property
    def known(self) -> Mapping[str, Sequence[Candidate]]:
        """What matched before, by tile."""
        known = defaultdict[str, list[Candidate]](list)
        for match in self.before.matches if self.before else ():
            known[match.candidate.tile].append(match.candidate)
        return known

    def needs(self, tile: Tile) -> bool:
        """Tell whether a tile is to be searched now."""
        before = self.before
        return self.request.refresh or not before or tile.name in before.document.failed

    def was_cut(self, tile: Tile) -> bool:
        """Tell whether the limit left something of a tile unread before."""
        return self.before is not None and tile.name in self.before.document.cut

    def can_tell(self, tile: Tile) -> bool:
        """Tell whether what is known of a tile and what changed since are all of it."""
        before = self.before
        return (
            before is not None
            and self.catalog.tells_changes
            and tile.name not in before.document.failed
            and not self.was_cut(tile)
        )

    def earlier(self, tile: Tile) -> list[Candidate]:
        """Give what matched in a tile before."""
        if tile.is_whole_area:
            return [each for some in self.known.values() for each in some]
        return list(self.known.get(tile.name, ()))


def sweep(todo: Todo, archive: Store) -> Found:
    """Search all tiles that need it, side by side; one that fails, fails alone.

    Raises:
        CatalogError, TransientError: The first tiles failed, one and all.
    """
    before = todo.before
    wanted = [tile for tile in todo.tiles if todo.needs(tile)]
    found = Found()
    for tile in todo.tiles:
        if not todo.needs(tile):
            _keep(found, tile, todo)
    with ThreadPoolExecutor(todo.at_once) as pool:
        searches = {tile.name: pool.submit(_search_one, tile, todo) for tile in wanted}
        for number, tile in enumerate(wanted, 1):
            err = _taken(found, searches[tile.name], tile, todo)
            if err and number == len(found.failed) == min(GIVE_UP, len(todo.tiles)):
                pool.shutdown(wait=False, cancel_futures=True)
                raise err
            if number % EACH_TOLD == 0:
                log.info("%d of %d tiles are searched", number, len(wanted))
    if before and (found.failed or len(wanted) < len(todo.tiles)):
        earlier = read_documents(archive, before.document)
        found.documents.update({**earlier, **found.documents})
    return found


def _taken(
    found: Found, search: "Future[TileFound]", tile: Tile, todo: Todo
) -> CatalogError | TransientError | None:
    """Take what a tile gave; of one that failed, what it gave in an earlier search stays."""
    try:
        _add(found, search.result(), tile, todo.request)
    except (CatalogError, TransientError) as err:
        if not tile.is_whole_area:
            log.warning("tile %s is not searched: %s", tile.name, err)
        found.failed[tile.name] = str(err)
        _keep(found, tile, todo)
        return err
    return None


def _keep(found: Found, tile: Tile, todo: Todo) -> None:
    """Keep what is known of a tile from an earlier search."""
    found.candidates.extend(todo.earlier(tile))
    if todo.was_cut(tile):
        found.cut.append(tile.name)


def _search_one(tile: Tile, todo: Todo) -> TileFound:
    """Search a tile: what is new where the catalogue can tell, else all of it."""
    earlier = todo.earlier(tile)
    stamp = changes_by(earlier)
    before = todo.before
    if before and stamp and todo.can_tell(tile):
        query = replace(
            tile_query(tile, todo.request, todo.collections),
            changed_in=stamp,
            changed_since=since(before.document.searched),
        )
        return refresh_tile(tile, todo.request, earlier, catalog=todo.catalog, query=query)
    return search_tile(
        tile,
        todo.request,
        catalog=todo.catalog,
        collections=todo.collections,
        again=before is not None,
    )


def _add(found: Found, one: TileFound, tile: Tile, request: IngestRequest) -> None:
    found.candidates.extend(one.candidates)
    found.documents.update(one.documents)
    if one.is_cut:
        if request.policy.max_items is None:
            found.cut.append(tile.name)
        log.warning(
            "%s has more in %s than the %d items that were read; ask for less, or raise limit",
            said(request.catalog),
            f"tile {tile.name}" if tile.name else "this area",
            len(one.candidates),
        )
