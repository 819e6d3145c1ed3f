"""Keep frozen scene lists in the archive, and have them again."""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from chipmill.errors import MissingError
from chipmill.formats import layout
from chipmill.formats.scene_list import (
    Match,
    Packed,
    SceneList,
    decode_documents,
    decode_matches,
    decode_scene_list,
    encode_documents,
    encode_matches,
    search_name,
    unpack_item,
)
from chipmill.io.item_table import stac_geoparquet_file
from chipmill.io.store import Store
from chipmill.model.changes import Changes

WRITES_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a search found and chose."""

    documents: Mapping[str, Packed]
    """Of the scenes that are taken, by id."""
    matches: list[Match]
    left_out: Mapping[str, int]
    duplicates: int
    failed: Mapping[str, str]
    cut: tuple[str, ...]
    tiles: int
    searched: datetime
    changes: Changes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A scene list in the archive."""

    document: SceneList
    matches: list[Match]
    written: frozenset[str]
    """Ids of scenes whose documents this search wrote or changed."""


def load_frozen(archive: Store, parts: Mapping[str, JsonValue]) -> Frozen | None:
    """Read the list of a search; None when it was not searched yet.

    Raises:
        StoreError: It is damaged.
    """
    key = layout.search_key(search_name(parts))
    try:
        document = decode_scene_list(archive.get(key), where=archive.href(key))
    except MissingError:
        return None
    matches = decode_matches(archive.get(document.matches_file))
    return Frozen(document=document, matches=matches, written=frozenset())


def freeze(
    archive: Store, parts: Mapping[str, JsonValue], result: Result, *, previous: Frozen | None
) -> Frozen:
    """Write a list; the document that names its files last, so that who reads sees all or none.

    Returns:
        The list, and which documents differ from those of the list before.
    """
    name = search_name(parts)
    documents = _put(archive, name, "items.jsonl.zst", encode_documents(result.documents))
    packed = (result.documents[item] for item in sorted(result.documents))
    table = stac_geoparquet_file(unpack_item(each) for each in packed)
    document = SceneList(
        search=name,
        request={key: value for key, value in parts.items() if key != "tiles"},
        collections=tuple(str(each) for each in _listed(parts["collections"])),
        searched=result.searched,
        tiles=result.tiles,
        matches=len({match.candidate.id for match in result.matches}),
        duplicates=result.duplicates,
        left_out=dict(result.left_out),
        scenes=len(result.documents),
        failed=dict(result.failed),
        cut=result.cut,
        changes=result.changes,
        documents_file=documents,
        table_file=_put(archive, name, "items.parquet", table) if table else None,
        matches_file=_put(archive, name, "matches.parquet", encode_matches(result.matches)),
    )
    archive.put(layout.search_key(name), document.encode())
    known = {match.candidate.id: match.digest for match in previous.matches} if previous else {}
    written = frozenset(
        match.candidate.id
        for match in result.matches
        if match.taken and known.get(match.candidate.id) != match.digest
    )
    return Frozen(document=document, matches=result.matches, written=written)


def read_documents(archive: Store, document: SceneList) -> dict[str, Packed]:
    """Read the documents of a list, by id."""
    return decode_documents(archive.get(document.documents_file))


def keep_documents(archive: Store, collection: str, frozen: Frozen) -> None:
    """Put the document of each scene where the next steps look: what is new, and what is gone."""
    keys = {
        match.candidate.id: layout.source_item_key(collection, match.candidate.id)
        for match in frozen.matches
        if match.taken
    }
    there = set(archive.keys(layout.source_items_prefix(collection)))
    missing = [name for name, key in keys.items() if key not in there or name in frozen.written]
    if not missing:
        return
    documents = read_documents(archive, frozen.document)

    def put(name: str) -> None:
        archive.put(keys[name], zlib.decompress(documents[name]))

    with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
        for done in [pool.submit(put, name) for name in missing]:
            done.result()


def _put(archive: Store, name: str, table: str, data: bytes) -> str:
    """Write a file under the name of its content: who reads an older list keeps its files."""
    key = layout.search_file_key(name, table, hashlib.sha256(data).hexdigest()[:16])
    archive.put(key, data)
    return key


def _listed(value: JsonValue) -> Iterable[JsonValue]:
    return value if isinstance(value, list) else ()
