"""search: a catalogue's scenes, chosen and frozen as a list that can be had again without it."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chipmill.errors import RequestError
from chipmill.formats.scene_list import Match, item_digest, unpack_item
from chipmill.formats.signature import said
from chipmill.io.catalog import open_catalog
from chipmill.io.documents import Documents
from chipmill.io.store import Store
from chipmill.model.access import Access, is_local
from chipmill.model.acquisition import Candidate, acquisition
from chipmill.model.changes import Changes, Taken, changes
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.policy import choose_scenes, first_beside, first_scenes
from chipmill.model.scene import SceneRef
from chipmill.settings import Settings
from chipmill.steps.area import find_tiles, request_words, search_parts, typed_addresses
from chipmill.steps.check import check_request
from chipmill.steps.scene_list import (
    Result,
    freeze,
    keep_documents,
    load_frozen,
)
from chipmill.steps.sweep import Found, Todo, sweep
from chipmill.steps.tile_search import (
    present,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The scenes of a request, and what was left out."""

    scenes: list[SceneRef]
    """Sorted by id."""
    over_limit: int
    """Scenes that would be taken without the limit, of those that were read."""
    cut: tuple[str, ...]
    """Tiles of which the limit left something unread; "" is the whole area."""
    unreadable: int
    """Items that are not as STAC has them."""


def search_scenes(
    request: IngestRequest,
    archive: Store,
    *,
    at_once: int = 8,
    rate: float = 10,
    access: Access | None = None,
) -> list[SceneRef]:
    """Give the scenes that `list_scenes` lists, by the same words."""
    return list_scenes(request, archive, at_once=at_once, rate=rate, access=access).scenes


def list_scenes(
    request: IngestRequest,
    archive: Store,
    *,
    at_once: int = 8,
    rate: float = 10,
    access: Access | None = None,
) -> Listed:
    """Find the scenes that a request asks for, freeze the list, and keep their documents.

    A request that was searched before gives the same scenes without the catalogue, unless it says
    `refresh`; tiles that failed then are searched again. The first search takes at most
    `request.limit` scenes; each refresh takes as many new ones more.

    Args:
        request: Which scenes.
        archive: Where the list and the documents are kept.
        at_once: Tiles that are searched side by side.
        rate: HTTP requests a second that are sent at most, over all tiles.
        access: What the documents of a catalogue may lead to; unless given, what the settings say.

    Returns:
        The scenes, and what was left out.

    Raises:
        RequestError: The sensor or a band is unknown, a file of tiles cannot be used, or nothing
            matches.
        CatalogError: The catalogue cannot be read.
        TransientError: It does not answer, after several tries.
    """
    kind = check_request(request)
    rules = access or Access.of(Settings.load(), local=is_local(request.catalog))
    with Documents(*typed_addresses(request), access=rules, rate=rate) as documents:
        tiles = find_tiles(request, documents)
        parts = search_parts(request, tiles, kind.collections)
        frozen = load_frozen(archive, parts)
        if frozen and not request.refresh and not frozen.document.failed:
            log.info("the list %s has them already", frozen.document.search)
        else:
            catalog = open_catalog(request.catalog, documents)
            todo = Todo(request, tiles, catalog, frozen, kind.collections, at_once)
            result = _result(todo, sweep(todo, archive))
            frozen = freeze(archive, parts, result, previous=frozen)
    keep_documents(archive, kind.name, frozen)
    taken = sorted(match.candidate.id for match in frozen.matches if match.taken)
    log.info("found %d %s scenes in %s", len(taken), kind.name, said(request.catalog))
    return Listed(
        scenes=[SceneRef(collection=kind.name, item=name) for name in dict.fromkeys(taken)],
        over_limit=frozen.document.left_out.get("limit", 0),
        cut=frozen.document.cut,
        unreadable=frozen.document.left_out.get("unreadable", 0),
    )


def _result(todo: Todo, found: Found) -> Result:
    """Choose among all that was found, and say what became of the rest."""
    request = todo.request
    chosen = choose_scenes(
        found.candidates,
        request.policy,
        max_cloud=request.max_cloud,
        max_nodata=request.max_nodata,
    )
    once = {each.id: each for each in reversed(chosen.kept)}
    first = _first(todo, list(once.values()))
    taken = {each.id for each in first if each.id in found.documents}
    unread = todo.catalog.left_out
    if not taken:
        also = f" ({unread.words()})" if unread else ""
        raise RequestError(
            f"no {request.sensor} scene in {said(request.catalog)} matches "
            f"{request_words(request)}{also}; widen the request"
            + (" or let the catalogue be mended" if unread else "")
        )
    left_out = dict(chosen.left_out)
    if unread:
        left_out["unreadable"] = len(unread)
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
        cut=tuple(found.cut),
        tiles=len(todo.tiles),
        searched=datetime.now(UTC),
        changes=_changes(todo, matches) if request.refresh and todo.before else None,
    )


def _first(todo: Todo, kept: Sequence[Candidate]) -> list[Candidate]:
    """Cut a choice down by the limit; what a refresh added is not taken back without one."""
    limit = todo.request.limit
    matches = todo.before.matches if todo.before else []
    earlier = {match.candidate.id: match.candidate for match in matches if match.taken}
    if todo.before and (todo.request.refresh or len(earlier) > limit):
        return first_beside(kept, earlier.values(), limit=limit)
    return first_scenes(kept, todo.request.policy, limit=limit)


def _changes(todo: Todo, matches: Sequence[Match]) -> Changes:
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
