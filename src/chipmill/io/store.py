"""Object stores by URL: `s3://`, `gs://`, `az://`, `file://`, all through obstore.

S3 takes its credentials, region and endpoint from the usual `AWS_…` variables. A process that was
forked from one that has used a store is refused: see `chipmill.io.forked`.
"""

import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

import numpy as np
import obstore
from numpy.typing import NDArray
from obstore import Bytes
from obstore import exceptions as obx
from obstore.store import ObjectStore, from_url

from chipmill.errors import AlreadyThereError, MissingError, StoreError, TransientError
from chipmill.io.forked import using
from chipmill.io.relay import relayed
from chipmill.io.unfinished import write_file

if TYPE_CHECKING:
    from obstore.store import ClientConfig  # of its stubs alone

PART_BYTES = 5 * 2**20
"""Bytes of one part of a large write, the least that S3 takes, as each copy holds one or two: of
10,000 parts, objects up to 52 GB, 20 times those of any sensor here."""
PARTS_AT_ONCE = 1
"""While a part is on its way the next one is read; files are copied side by side anyway."""
_LONGEST = timedelta(minutes=5)
"""A request that takes longer is given up: S3 takes a part in a second or so."""
_FILES_AT_ONCE = 4
"""Files of a directory that are read side by side; more threads take each other's time."""
SCHEMES = ("file", "s3", "gs", "az")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a listing says of an object."""

    key: str
    size: int
    """Bytes."""
    changed: datetime
    version: str
    """The ETag, or the time of change and the size where the store gives none."""


@dataclass(frozen=True, slots=True)
class Store:
    """A place for objects: values in, values out; errors are chipmill's own."""

    url: str
    """Root, without a slash at the end."""
    objects: ObjectStore

    @classmethod
    def open(cls, url: str, *, patience: float = 30) -> Self:
        """Open a store; a `file://` root is made when it is not there.

        Args:
            url: Root of the store.
            patience: Seconds without an answer or a byte after which a connection counts as dead.

        Raises:
            StoreError: The scheme is unknown or the root cannot be used.
        """
        root = url.rstrip("/")
        if urlsplit(root).scheme not in SCHEMES:
            raise StoreError(f"{url} names no object store; use one of {', '.join(SCHEMES)}")
        with _named(root):
            if root.startswith("file://"):
                _local(root).mkdir(parents=True, exist_ok=True)
                return cls(root, from_url(root))
            client: ClientConfig = {
                # Used only where AWS_ENDPOINT_URL names such an endpoint: the team's own choice.
                "allow_http": True,
                "connect_timeout": timedelta(seconds=patience),
                "read_timeout": timedelta(seconds=patience),
                "timeout": _LONGEST,
            }
            if root.startswith("s3://"):
                # S3 refuses what does not arrive as it was sent, and keeps the sum.
                return cls(root, from_url(root, client_options=client, checksum_algorithm="SHA256"))
            return cls(root, from_url(root, client_options=client))

    @property
    def is_near(self) -> bool:
        """Tell whether it is a directory of this machine, which no request has to ask."""
        return self.url.startswith("file://")

    def at_once(self, most: int) -> int:
        """Say how many objects are read side by side: `most`, where requests are waited for."""
        return min(most, _FILES_AT_ONCE) if self.is_near else most

    def href(self, key: str) -> str:
        """Absolute URL of a key."""
        return f"{self.url}/{key}"

    def key_of(self, href: str) -> str:
        """Key of an absolute URL in this store.

        Raises:
            StoreError: The URL lies elsewhere.
        """
        if not href.startswith(self.url + "/"):
            raise StoreError(
                f"{href} does not lie in the archive {self.url}; was the archive moved? Ingest its "
                "scenes again, and their items name their files where these are now"
            )
        return href[len(self.url) + 1 :]

    def local_path(self, key: str) -> Path | None:
        """Path of a key where the store is a local directory, else None."""
        return _local(self.url) / key if self.is_near else None

    def get(self, key: str) -> bytes:
        """Read a whole object.

        Raises:
            MissingError: There is none.
            TransientError: The store did not answer.
        """
        path = self.local_path(key)
        with _translated(self.href(key)):
            if path is not None:
                return path.read_bytes()  # a third of the time
            return bytes(obstore.get(self.objects, key).bytes())

    def size(self, key: str) -> int | None:
        """Bytes of an object; None when there is none."""
        try:
            with _translated(self.href(key)):
                return obstore.head(self.objects, key)["size"]
        except MissingError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object."""
        with _translated(self.href(key)):
            obstore.put(self.objects, key, data)

    def create(self, key: str, data: bytes) -> None:
        """Write an object only where there is none; that these very bytes are there is fine.

        So it is safe to repeat where the answer to a write was lost.

        Raises:
            AlreadyThereError: The key is taken.
            TransientError: The store says so, and yet there is nothing: other writers are at it.
        """
        try:
            with _translated(self.href(key)):
                obstore.put(self.objects, key, data, mode="create")
        except AlreadyThereError:
            try:
                there = self.get(key)
            except MissingError as err:
                # S3 answers 409 while another write of the key is under way; obstore calls both so.
                raise TransientError(f"another write of {self.href(key)} is under way") from err
            if there != data:
                raise

    def delete(self, key: str) -> None:
        """Remove an object; that it is not there is fine."""
        with suppress(MissingError), _translated(self.href(key)):
            obstore.delete(self.objects, key)

    def write(self, key: str, chunks: Iterable[bytes], *, cached: bool = True) -> None:
        """Stream an object in; where `chunks` raises, nothing appears under the key.

        Args:
            key: Of the object.
            chunks: Its bytes.
            cached: Whether it is read soon. Else a large file of a local archive is written past
                the page cache.
        """
        path = self.local_path(key)
        if path is not None:
            with _named(self.href(key)):
                write_file(path, chunks, cached=cached)
            return
        rest = iter(chunks)
        first = _gathered(rest)
        if sum(map(len, first)) < PART_BYTES:
            self.put(key, b"".join(first))  # one request instead of three
            return
        with _translated(self.href(key)), relayed(_drained(first, rest)) as pieces:
            obstore.put(
                self.objects,
                key,
                pieces,
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

    def stream(self, key: str) -> tuple[int, Iterator[bytes]]:
        """Read an object in pieces: its size in bytes, and the pieces in order."""
        with _translated(self.href(key)):
            answer = obstore.get(self.objects, key)
        size = answer.meta["size"]

        def pieces() -> Iterator[bytes]:
            with _translated(self.href(key)):
                for piece in answer.stream(min_chunk_size=PART_BYTES):
                    yield bytes(piece)

        return size, pieces()

    def keys(self, prefix: str) -> Iterator[str]:
        """List keys below a prefix, in no order."""
        with _translated(self.href(prefix)):
            for page in self.objects.list(prefix):
                yield from (entry["path"] for entry in page)

    def listing(self, prefix: str) -> Iterator[Entry]:
        """List objects below a prefix with their sizes and versions, in no order."""
        with _translated(self.href(prefix)):
            for page in self.objects.list(prefix):
                for entry in page:
                    changed = entry["last_modified"]
                    tag = entry["e_tag"] or f"{changed.isoformat()} {entry['size']}"
                    yield Entry(key=entry["path"], size=entry["size"], changed=changed, version=tag)

    def folders(self, prefix: str) -> list[str]:
        """List the names between a prefix that ends in a slash and the next slash, sorted."""
        with _translated(self.href(prefix)):
            found = obstore.list_with_delimiter(self.objects, prefix)["common_prefixes"]
        return sorted(path.rsplit("/", 1)[-1] for path in found)

    def beginning(self, key: str, count: int) -> tuple[bytes, int]:
        """Read the first bytes of an object, and how many it has, by one request.

        Raises:
            MissingError: There is none.
            TransientError: The store did not answer.
        """
        with _translated(self.href(key)):
            answer = obstore.get(self.objects, key, options={"range": (0, count)})
            return bytes(answer.bytes()), answer.meta["size"]

    def ranges(
        self,
        key: str,
        starts: Sequence[int],
        ends: Sequence[int],
        *,
        gap: int,
        empty: Callable[[int], NDArray[np.uint8]] | None = None,
    ) -> Sequence[Bytes | bytes | memoryview]:
        """Read some ranges of an object; those less than `gap` bytes apart by one request.

        A range that reaches beyond the end gives what is there. `empty` may give memory for all of
        them, which local files are read into: fresh memory costs ten times as much as the reading.

        Raises:
            MissingError: There is no such object.
            TransientError: The store did not answer.
        """
        path = self.local_path(key)
        with _translated(self.href(key)):
            if path is not None:
                with path.open("rb", buffering=0) as file:
                    number = file.fileno()
                    wanted = list(zip(starts, ends, strict=True))
                    if empty is None:
                        return [os.pread(number, end - start, start) for start, end in wanted]
                    room = empty(sum(end - start for start, end in wanted)).data
                    return list(_read_into(room, number, wanted))
            return obstore.get_ranges(self.objects, key, starts=starts, ends=ends, coalesce=gap)

    def translated(self, key: str) -> AbstractContextManager[None]:
        """Turn errors of the file system about an object into chipmill's."""
        return _translated(self.href(key))

    def reader(self, key: str) -> RawIOBase:
        """Open an object as a seekable file that reads ranges."""
        with _translated(self.href(key)):
            return _Reader(self.objects, key)


def _read_into(
    room: memoryview, number: int, wanted: Iterable[tuple[int, int]]
) -> Iterator[memoryview]:
    for start, end in wanted:
        piece, room = room[: end - start], room[end - start :]
        yield piece[: os.preadv(number, [piece], start)]


class _Reader(RawIOBase):
    """What rasterio and pyarrow need of a file: seek, tell, read."""

    def __init__(self, objects: ObjectStore, key: str) -> None:
        self._file = obstore.open_reader(objects, key, buffer_size=2**20)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1, /) -> bytes:
        return bytes(self._file.read(size if size >= 0 else None))

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _gathered(chunks: Iterator[bytes]) -> list[bytes]:
    """Take chunks until they fill a part, or end."""
    taken: list[bytes] = []
    size = 0
    while size < PART_BYTES and (chunk := next(chunks, None)) is not None:
        taken.append(chunk)
        size += len(chunk)
    return taken


def _drained(first: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """Give the pieces, and hold none of them any longer."""
    first.reverse()
    while first:
        yield first.pop()
    yield from rest


@lru_cache(maxsize=64)
def _local(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


_QUERY = re.compile(r"(?<=\S)\?\S+")
_MEANING: tuple[tuple[type[Exception], Callable[[str], Exception]], ...] = (
    (FileNotFoundError, lambda text: MissingError(f"nothing at {text}")),
    (obx.AlreadyExistsError, lambda text: AlreadyThereError(f"already there: {text}")),
    (obx.PermissionDeniedError, lambda text: StoreError(f"access denied to {text}")),
    (obx.UnauthenticatedError, lambda text: StoreError(f"no valid credentials for {text}")),
    (obx.GenericError, lambda text: TransientError(f"the store did not answer: {text}")),
    (obx.BaseError, lambda text: StoreError(f"the store refuses: {text}")),
    (OSError, lambda text: StoreError(f"the store fails: {text}")),
    (ValueError, lambda text: StoreError(f"not a store: {text}")),
)


@contextmanager
def _translated(where: str) -> Generator[None]:
    """Use obstore for a place, in a process that can."""
    using(where)
    with _named(where):
        yield


@contextmanager
def _named(where: str) -> Generator[None]:
    """Turn the errors of obstore and the file system into chipmill's, naming the place."""
    try:
        yield
    except tuple(kind for kind, _ in _MEANING) as err:
        make = next(make for kind, make in _MEANING if isinstance(err, kind))
        # obstore adds a dump of its internals after a blank line.
        # A query of an address may be a signature, which no message may show.
        reason = _QUERY.sub("", str(err).split("\n\n", 1)[0])
        raise make(f"{where} ({reason})") from err
