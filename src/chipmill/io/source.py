"""Read the files of a scene where the provider keeps them: `https://`, `s3://`, `gs://`, `file://`.

A connection that breaks is taken up again at the byte where it broke, as long as the file is the
same.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import stamina

from chipmill.errors import MissingError, StoreError, TransientError
from chipmill.formats.multihash import Checksum
from chipmill.formats.signature import said
from chipmill.formats.stated import md5_of_etag, plain_etag, stated_checksums
from chipmill.io import s3, web
from chipmill.io.answer import PIECE_BYTES, Answer
from chipmill.io.store import SCHEMES, Store
from chipmill.io.throttle import throttle
from chipmill.model.access import OWN, Access

RESUMES = 3
"""How often a file is taken up again where it broke."""

Ask = Callable[[int], AbstractContextManager[Answer]]
"""Asks for a file from a byte on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that is being read."""

    size: int | None
    """Bytes, where the provider says it."""
    pieces: Iterator[bytes]
    etag: str | None = None
    modified: datetime | None = None
    checksums: tuple[Checksum, ...] = ()
    """What the provider states of the whole file, the best first."""
    md5: str | None = None
    """The ETag, where it is an MD5."""


@contextmanager
def open_source(href: str, access: Access = OWN, *, pays: bool = False) -> Generator[Source]:
    """Open a file for one pass from its beginning to its end.

    Args:
        href: Where it is.
        access: What may be reached; unless given, the address is one that the team itself typed.
        pays: Whether the reader pays for the transfer and agrees to.

    Raises:
        MissingError: There is nothing at this href.
        TransientError: The provider did not answer, or said to come back later.
        StoreError: The provider refuses, or the scheme is none that chipmill reads.
    """
    access.check(href)
    scheme = urlsplit(href).scheme
    if scheme == "file":
        source = _file(href)
        yield _slowed(source, access)
    elif scheme in ("http", "https"):
        with _answered(href, lambda at, etag: web.get(href, access, start=at, etag=etag)) as source:
            yield _slowed(source, access)
    elif scheme == "s3":
        ask = partial(s3.get, href, access, pays=pays)
        with _answered(href, lambda at, etag: ask(start=at, etag=etag)) as source:
            yield _slowed(source, access)
    elif scheme in SCHEMES:
        yield _slowed(_object(href), access)
    else:
        raise StoreError(f"{said(href)} has a scheme that chipmill does not read; use https or s3")


def again(error: Exception) -> bool | float:
    """Tell stamina whether to try again, and after how many seconds where the server said so."""
    if not isinstance(error, TransientError):
        return False
    return True if error.after is None else error.after


def as_time(text: str | None) -> datetime | None:
    """Read a time as HTTP has it; None: there is none, or it is none."""
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def _slowed(source: Source, access: Access) -> Source:
    if access.bandwidth is None:
        return source
    return replace(source, pieces=throttle(access.bandwidth).of(source.pieces))


def _file(href: str) -> Source:
    path = Path(unquote(urlsplit(href).path))
    if not path.is_file():
        raise MissingError(f"nothing at {href}")

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    found = path.stat()
    modified = datetime.fromtimestamp(found.st_mtime, UTC)
    return Source(size=found.st_size, pieces=pieces(), modified=modified)


def _object(href: str) -> Source:
    parts = urlsplit(href)
    store = Store.open(f"{parts.scheme}://{parts.netloc}")
    size, pieces = store.stream(unquote(parts.path.lstrip("/")))
    return Source(size=size, pieces=pieces)


@contextmanager
def _answered(
    href: str, ask: Callable[[int, str | None], AbstractContextManager[Answer]]
) -> Generator[Source]:
    with ask(0, None) as first:
        etag = plain_etag(first.headers.get("etag"))
        yield Source(
            size=first.size,
            pieces=_resumed(href, first, lambda at: ask(at, etag)),
            etag=etag,
            modified=as_time(first.headers.get("last-modified")),
            checksums=stated_checksums(first.headers),
            md5=md5_of_etag(first.headers),
        )


def _resumed(href: str, first: Answer, ask: Ask) -> Iterator[bytes]:
    at = 0
    try:
        for piece in _whole(href, first, at):
            at += len(piece)
            yield piece
    except TransientError:
        if not (first.resumable and at):
            raise
    else:
        return
    for attempt in stamina.retry_context(on=again, attempts=RESUMES, wait_initial=0.5, wait_max=30):
        with attempt, ask(at) as answer:
            for piece in _whole(href, answer, at):
                at += len(piece)
                yield piece


def _whole(href: str, answer: Answer, at: int) -> Iterator[bytes]:
    """Pass an answer's bytes on, and refuse an end that comes too early or too late."""
    for piece in answer.pieces:
        at += len(piece)
        yield piece
    if answer.size is not None and at != answer.size:
        raise TransientError(
            f"{said(href)} ended after {at} of {answer.size} bytes; it is fetched again"
        )
