"""Read a file of the archive once, from its beginning to its end, and prove it there.

The hash of a whole file cannot be checked by some ranges of it. Who needs most of a file reads all
of it in one pass: each piece is fetched and hashed while the one before is used, and the runs that
are needed are taken in the order of the file. Nothing is to be believed before `prove` returns.
"""

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from obstore import Bytes

from chipmill.errors import DamagedError
from chipmill.formats.multihash import Checksum, running
from chipmill.io.store import Store
from chipmill.model.memory import Memory

PIECE = 4 * 2**20
"""Bytes of one read; for each file that is read, one is held and one is on its way."""

Piece = Bytes | bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a file."""

    size: int
    """Bytes that it must have."""
    checksum: Checksum | None
    """What its bytes must give."""


class OnePass:
    """A file in one pass, for one thread."""

    def __init__(
        self, store: Store, key: str, *, known: Known, pool: Executor, memory: Memory | None = None
    ) -> None:
        """Begin to read.

        Args:
            store: Where the file is.
            key: Its key.
            known: Its size and hash.
            pool: Reads ahead, one piece at a time.
            memory: For pieces of a file of this machine; None: its own.
        """
        self._memory = memory or Memory()
        self._path = store.local_path(key)
        checksum = known.checksum
        self._store, self._key, self._size, self._pool = store, key, known.size, pool
        self._checksum = checksum
        self._hash = running(checksum.algorithm) if checksum else None
        self._held: deque[tuple[int, Piece]] = deque()
        self._read = 0
        self._next: Future[Piece] | None = None
        self._ask()

    def take(self, start: int, stop: int) -> "memoryview | bytes":
        """Give a run of bytes; what lies before it is forgotten.

        Raises:
            DamagedError: The file ends before.
            TransientError: The store did not answer.
        """
        while self._read < stop:
            self._advance()
            self._forget(start)
        self._forget(start)
        parts = [
            memoryview(piece)[max(start - at, 0) : stop - at]
            for at, piece in self._held
            if at < stop
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def prove(self) -> None:
        """Read the rest, and compare the hash.

        Raises:
            DamagedError: The bytes are not those that were copied.
            TransientError: The store did not answer.
        """
        while self._read < self._size:
            self._advance()
            self._forget(self._size)
        if self._hash and self._checksum:
            found, stated = self._hash.hexdigest(), self._checksum.digest
            if found != stated:
                raise DamagedError(
                    f"{self._store.href(self._key)} has the {self._checksum.algorithm} "
                    f"{found[:16]}… where its item says {stated[:16]}…; copy the scene again"
                )

    def _advance(self) -> None:
        if self._next is None:
            raise DamagedError(
                f"{self._store.href(self._key)} ends after {self._read} bytes, before what its "
                "header names; copy the scene again"
            )
        piece = self._next.result()
        self._held.append((self._read, piece))
        self._read += len(piece)
        self._ask()

    def _ask(self) -> None:
        left = self._read < self._size
        self._next = self._pool.submit(self._fetch, self._read) if left else None

    def _fetch(self, start: int) -> Piece:
        stop = min(start + PIECE, self._size)
        piece = self._piece(start, stop)
        if len(piece) != stop - start:
            raise DamagedError(
                f"{self._store.href(self._key)} gave {len(piece)} bytes of {stop - start}, where "
                f"its item says that it has {self._size}; copy the scene again"
            )
        if self._hash:
            self._hash.update(cast("bytes", piece))
        return piece

    def _piece(self, start: int, stop: int) -> Piece:
        if self._path is None:
            return self._store.ranges(self._key, [start], [stop], gap=0)[0]
        piece = self._memory.empty(PIECE).data[: stop - start]
        with self._store.translated(self._key), self._path.open("rb", buffering=0) as file:
            return piece[: os.preadv(file.fileno(), [piece], start)]

    def _forget(self, start: int) -> None:
        while self._held and self._held[0][0] + len(self._held[0][1]) <= start:
            self._held.popleft()


@contextmanager
def proven(store: Store, key: str, *, known: Known, pool: Executor) -> Generator[tuple[Store, str]]:
    """Prove a file before anything of it is used, for readers that jump about in it.

    One of another machine comes to a temporary directory here, so that it is read once.

    Yields:
        Where the file may be read.

    Raises:
        DamagedError: The bytes are not those that were copied.
        TransientError: The store did not answer.
    """
    reading = OnePass(store, key, known=known, pool=pool)
    if store.local_path(key):
        reading.prove()
        yield store, key
        return
    with TemporaryDirectory(prefix="chipmill-") as folder:
        with Path(folder, "file.tif").open("wb") as file:
            stops = (min(start + PIECE, known.size) for start in range(0, known.size, PIECE))
            file.writelines(reading.take(stop - (stop % PIECE or PIECE), stop) for stop in stops)
        reading.prove()
        yield Store.open(Path(folder).as_uri()), "file.tif"
