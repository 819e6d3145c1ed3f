"""Read the files of a scene where the provider keeps them: `https://`, `s3://`, `gs://`, `file://`."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from chipmill.errors import MissingError, StoreError, TransientError
from chipmill.io.store import PART_BYTES, SCHEMES, Store

_AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers after which the same request may succeed."""


_OK = 200
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that is being read."""

    size: int | None
    """Bytes, where the provider says it."""
    pieces: Iterator[bytes]


@contextmanager
def open_source(href: str) -> Generator[Source]:
    """Open a file for one pass from its beginning to its end.

    Raises:
        MissingError: There is nothing at this href.
        TransientError: The provider did not answer, or said to come back later.
        StoreError: The provider refuses, or the scheme is none that chipmill reads.
    """
    parts = urlsplit(href)
    if parts.scheme in ("http", "https"):
        with _http(href) as source:
            yield source
    elif parts.scheme == "file":
        yield _file(href)
    elif parts.scheme in SCHEMES:
        store = Store.open(f"{parts.scheme}://{parts.netloc}")
        size, pieces = store.stream(unquote(parts.path.lstrip("/")))
        yield Source(size=size, pieces=pieces)
    else:
        raise StoreError(f"{href} has a scheme that chipmill does not read; use https, s3 or file")


def _file(href: str) -> Source:
    path = Path(unquote(urlsplit(href).path))
    if not path.is_file():
        raise MissingError(f"nothing at {href}")

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(PART_BYTES):
                yield piece

    return Source(size=path.stat().st_size, pieces=pieces())


@contextmanager
def _http(href: str) -> Generator[Source]:
    where = href.split("?", 1)[0]  # a query may be a signature, which no message may show
    try:
        with httpx.stream("GET", href, follow_redirects=True, timeout=60) as answer:
            _check(answer, where)
            size = answer.headers.get("content-length")
            encoded = "content-encoding" in answer.headers
            yield Source(
                size=int(size) if size and not encoded else None,
                pieces=answer.iter_bytes(PART_BYTES),
            )
    except httpx.HTTPError as err:
        raise TransientError(f"{where} did not answer ({err})") from err


def _check(answer: httpx.Response, where: str) -> None:
    code = answer.status_code
    if code == _NOT_FOUND:
        raise MissingError(f"nothing at {where}")
    if code in _AGAIN:
        raise TransientError(f"{where} answered {code}; it may work in a while")
    if code != _OK:
        raise StoreError(f"{where} answered {code}; check the access rights")
