"""The history of the index: one step after the other, and which snapshot each of them made.

A step is an object under a number that is written create-only, so whatever happens, history is one
line: who comes second finds the number taken and looks again.
"""

import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import stamina

from chipmill.errors import (
    AlreadyThereError,
    MissingError,
    RequestError,
    StoreError,
    TransientError,
)
from chipmill.formats import layout
from chipmill.formats.snapshot import Snapshot, decode_snapshot
from chipmill.io.store import Store

log = logging.getLogger(__name__)

ROUNDS = 50
"""Most writers that may come first, one after the other, before a writer gives up."""
SHORTEST = 4
"""Hex digits of a snapshot's name that are enough to look for it."""

Check = Callable[[], None]
"""Raises when a lock is lost."""


class Lock(Protocol):
    """Lets one writer in at a time, for stores that cannot keep writers apart."""

    def __call__(self, name: str, /) -> AbstractContextManager[Check]:
        """Wait for the lock of this name and hold it while the block lasts."""
        ...


def latest(archive: Store, chip_size: int) -> Snapshot | None:
    """Read the newest step of history; None before the first merge."""
    keys = list(archive.keys(layout.heads_prefix(chip_size)))
    return _read(archive, max(keys)) if keys else None


def history(archive: Store, chip_size: int) -> list[Snapshot]:
    """Read all steps of history that are kept, oldest first."""
    return [_read(archive, key) for key in sorted(archive.keys(layout.heads_prefix(chip_size)))]


def load_snapshot(archive: Store, name: str, *, chip_size: int = 256) -> Snapshot:
    """Read a snapshot's document, as its newest files have it.

    Args:
        archive: Where it is.
        name: Its name or the beginning of it; or `latest`.
        chip_size: Edge of a chip in pixels of the latest one; a name needs none.

    Raises:
        RequestError: There is none, none of this name, or more than one.
    """
    if name != "latest":
        return _named(archive, name)
    newest = latest(archive, chip_size)
    if newest is None:
        raise RequestError(
            f"{archive.url} has no snapshot with chips of {chip_size} px; merge the index first"
        )
    return newest


def advance(
    archive: Store,
    chip_size: int,
    build: Callable[[Snapshot | None], Snapshot | None],
    *,
    lock: Lock | None = None,
) -> Snapshot:
    """Take a step: build on the newest snapshot, and again where another writer comes first.

    Args:
        archive: Where the index is.
        chip_size: Edge of a chip in pixels.
        build: Writes the files of the next snapshot and gives its document; None when there is
            nothing to do. What it reads it reads after the newest snapshot, so history never goes
            back behind what somebody has merged.
        lock: Taken where the store does not honour create-only writes.

    Raises:
        StoreError: The store does not honour create-only writes, and there is no lock.
        TransientError: Others came first too often.
    """
    if _honours_create(archive):
        return _advance(archive, chip_size, build, write=archive.create)
    if lock is None:
        raise StoreError(
            f"{archive.url} lets two writers create one object, so merges at once would lose "
            "scenes; merge with the ledger's lock, or use a store that honours If-None-Match"
        )
    log.warning("%s does not honour create-only writes; taking a lock", archive.url)
    with lock(f"index {chip_size}") as check:

        def write(key: str, data: bytes) -> None:
            check()
            archive.put(key, data)

        return _advance(archive, chip_size, build, write=write)


def _advance(
    archive: Store,
    chip_size: int,
    build: Callable[[Snapshot | None], Snapshot | None],
    *,
    write: Callable[[str, bytes], None],
) -> Snapshot:
    for _ in range(ROUNDS):
        newest = latest(archive, chip_size)
        if newest is not None:
            _file_by_name(archive, newest)
        built = build(newest)
        if built is None and newest is not None:
            return newest
        if built is not None and _took(built, write=write):
            _file_by_name(archive, built)
            return built
    raise TransientError(
        f"{ROUNDS} other merges of chips of {chip_size} px came first in {archive.url}; merge again"
    )


def _took(snapshot: Snapshot, *, write: Callable[[str, bytes], None]) -> bool:
    """Tell whether this step became part of history."""
    key = layout.head_key(snapshot.chip_size, snapshot.number)
    # A write whose answer is lost is repeated: the same bytes again are no second step.
    for attempt in stamina.retry_context(on=TransientError, attempts=5, wait_initial=0.05):
        with attempt:
            try:
                write(key, snapshot.encode())
            except AlreadyThereError:
                return False
    return True


def _file_by_name(archive: Store, snapshot: Snapshot) -> None:
    """Put a copy of a step where its name finds it; whoever was killed before that, is helped."""
    key = layout.snapshot_key(snapshot.snapshot, snapshot.number)
    if archive.size(key) is None:
        archive.put(key, snapshot.encode())


def _honours_create(archive: Store) -> bool:
    """Try whether the second of two writes of one key is refused."""
    key = f"{layout.PROBES}{secrets.token_hex(8)}"
    archive.create(key, b"first")
    try:
        archive.create(key, b"second")
    except AlreadyThereError:
        return True
    finally:
        archive.delete(key)
    return False


def _named(archive: Store, name: str) -> Snapshot:
    keys: list[str] = []
    if name.isalnum():  # a path is no name
        keys = _documents(archive, name) or _documents(archive, _in_full(archive, name))
    with suppress(MissingError):  # it may have been collected since
        if keys:
            return _read(archive, max(keys))
    for chip_size in archive.folders(layout.HEADS):  # whoever wrote it may have been killed then
        newest = latest(archive, int(chip_size))
        if newest is not None and newest.snapshot == name:
            return newest
    raise RequestError(
        f"there is no snapshot {name!r} in {archive.url}; take the name that a merge gave, "
        "or 'latest'"
    )


def _in_full(archive: Store, name: str) -> str:
    """Give the one name that begins so, or the beginning itself."""
    if len(name) < SHORTEST:
        return name
    found = [each for each in archive.folders(layout.SNAPSHOTS) if each.startswith(name)]
    found = [each for each in found if _documents(archive, each)]
    if len(found) > 1:
        raise RequestError(
            f"{name!r} is the beginning of the snapshots {', '.join(found)}; say more of it"
        )
    return found[0] if found else name


def _documents(archive: Store, name: str) -> list[str]:
    prefix = f"{layout.SNAPSHOTS}{name}/"
    return [key for key in archive.keys(prefix) if key.startswith(f"{prefix}snapshot-")]


def _read(archive: Store, key: str) -> Snapshot:
    return decode_snapshot(archive.get(key), where=archive.href(key))
