"""collect: remove what no snapshot that is kept is made of, and what killed writers left.

Kept are the newest steps of history, the snapshots that plans name, and everything young: a merge
that is under way has written files that no document names yet.
"""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.snapshot import decode_snapshot, named_snapshot
from chipmill.io.store import Store
from chipmill.io.unfinished import unfinished
from chipmill.steps.sheaf import AT_ONCE

log = logging.getLogger(__name__)

KEEP = 10
"""Newest steps of history of each chip size that stay."""
AGE = timedelta(days=1)
"""What is younger stays: far longer than a merge of 50 million chips takes."""
_TABLES = {"chips", "scenes", "provenance"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What is no longer needed."""

    keys: tuple[str, ...]
    """First what names, then what is named: nothing ever names what is gone."""
    size: int
    """Bytes."""


def collect_garbage(
    archive: Store, *, keep: int = KEEP, age: timedelta = AGE, remove: bool = False
) -> Garbage:
    """Find what no snapshot that is kept is made of, and half-written files; remove them if asked.

    Args:
        archive: Where the snapshots of all chip sizes are.
        keep: Newest steps of history of each chip size that stay, 1 or more.
        age: What was written in this time stays; no merge and no reader may take longer.
        remove: Remove it; else only say what would go.

    Raises:
        RequestError: Nothing would be kept.
        StoreError: A snapshot or a plan cannot be read; nothing is removed then.
    """
    if keep < 1:
        raise RequestError(f"{keep} steps of history are too few; keep 1 or more")
    before = datetime.now(UTC) - age
    entries = {
        entry.key: entry
        for prefix in (layout.HEADS, layout.SNAPSHOTS, layout.PROBES)
        for entry in archive.listing(prefix)
    }
    old = {key for key, entry in entries.items() if entry.changed < before}
    # Plans are read after the listing: one that was made meanwhile is seen.
    kept = _kept_heads(entries, keep) | _planned(archive, entries)
    kept |= {key for key in entries.keys() - old if _is_document(key)}
    kept |= _named(archive, kept)
    gone = sorted((key for key in old - kept if _is_ours(key)), key=_turn)
    halves = unfinished(archive.local_path(""), before)
    if remove:
        for key in gone:
            archive.delete(key)
        for key in halves:
            if path := archive.local_path(key):
                path.unlink(missing_ok=True)
        log.info("%d objects of old snapshots are removed", len(gone))
        log.info("%d files that were never finished are removed", len(halves))
    size = sum(entries[key].size for key in gone) + sum(halves.values())
    return Garbage(keys=(*gone, *sorted(halves)), size=size)


def _kept_heads(keys: Iterable[str], keep: int) -> set[str]:
    """Name the newest steps of each chip size."""
    heads = sorted(key for key in keys if key.startswith(layout.HEADS))
    by_size = groupby(heads, lambda key: key.rsplit("/", 1)[0])
    return {key for _, some in by_size for key in list(some)[-keep:]}


def _planned(archive: Store, keys: Iterable[str]) -> set[str]:
    """Name the documents of snapshots that plans name: of each snapshot the newest."""
    newest: dict[str, str] = {}
    for key in sorted(filter(_is_document, keys)):
        newest[key.split("/")[2]] = key
    plans = [key for key in archive.keys(layout.PLANS) if key.endswith("/plan.json")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(archive.get, plans)
        names = {
            named_snapshot(data, where=archive.href(key))
            for key, data in zip(plans, found, strict=True)
        }
    return {newest[name] for name in names if name in newest}


def _named(archive: Store, documents: Iterable[str]) -> set[str]:
    """Name the files of snapshots, and their documents under their own names."""
    named: set[str] = set()
    for key in documents:
        snapshot = decode_snapshot(archive.get(key), where=archive.href(key))
        named |= {layout.snapshot_key(snapshot.snapshot, snapshot.number), *snapshot.files}
    return named


def _is_document(key: str) -> bool:
    return key.startswith(layout.SNAPSHOTS) and _within(key).startswith("snapshot-")


def _within(key: str) -> str:
    """Name what lies in the folder of a snapshot; empty: it lies in none."""
    return "".join(key.split("/")[3:4])


def _is_ours(key: str) -> bool:
    """Tell whether a merge wrote it: what others keep beside a snapshot is theirs."""
    if not key.startswith(layout.SNAPSHOTS):
        return True
    return _is_document(key) or (_within(key) in _TABLES and key.endswith(".parquet"))


def _turn(key: str) -> tuple[int, str]:
    """Order removal: first what names, then what is named, so that nothing names what is gone."""
    return (0 if key.startswith(layout.HEADS) else 1 if _is_document(key) else 2), key
