"""Read objects of S3 with the headers of their answers, by one request each."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager

import stamina

from chipmill.errors import TransientError
from chipmill.formats.stated import plain_etag
from chipmill.io.answer import PIECE_BYTES, Answer
from chipmill.io.s3_asking import Reply, asked, translated
from chipmill.model.access import Access

TRIES = 3
"""A small request is sent again at once; what takes longer is for those who ask."""
_SUMS = {"x-amz-checksum-mode": "ENABLED"}
_PART = 206


@contextmanager
def get(
    href: str, access: Access, *, pays: bool = False, start: int = 0, etag: str | None = None
) -> Generator[Answer]:
    """Ask for an object, from a byte on.

    Raises:
        MissingError: There is none.
        TransientError: The server did not answer, is busy, or has another object now.
        StoreError: The server refuses.
    """
    headers = {"range": f"bytes={start}-"} if start else dict(_SUMS)
    if etag:
        headers["if-match"] = f'"{etag}"'
    with asked("GET", href, access, pays=pays, headers=headers) as reply:
        if start and reply.status != _PART:
            raise TransientError(f"{href} was given from its beginning; it is fetched again")
        yield Answer(
            size=start + _length(reply, href),
            headers=reply.headers,
            pieces=_pieces(reply, href),
            resumable=plain_etag(reply.headers.get("etag")) is not None,
        )


@stamina.retry(on=TransientError, attempts=TRIES, wait_initial=0.5)
def head(href: str, access: Access, *, pays: bool = False) -> Mapping[str, str]:
    """Give the headers of an object, its checksums among them; names in lower case.

    Raises:
        MissingError: There is none.
        TransientError: The server did not answer, or is busy.
        StoreError: The server refuses.
    """
    with asked("HEAD", href, access, pays=pays, headers=_SUMS) as reply:
        _length(reply, href)
        return reply.headers


@stamina.retry(on=TransientError, attempts=TRIES, wait_initial=0.5)
def first_bytes(href: str, access: Access, *, pays: bool, count: int) -> bytes:
    """Read the beginning of an object; errors are those of `head`."""
    wanted = {"range": f"bytes=0-{count - 1}"}
    with asked("GET", href, access, pays=pays, headers=wanted) as reply, translated(href):
        return reply.body.read(count)


def _length(reply: Reply, href: str) -> int:
    with translated(href):
        return int(reply.headers["content-length"])


def _pieces(reply: Reply, href: str) -> Iterator[bytes]:
    while True:
        with translated(href):
            piece = reply.body.read(PIECE_BYTES)
        if not piece:
            return
        yield piece
