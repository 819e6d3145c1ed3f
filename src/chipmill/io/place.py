"""Where a file lies, told by its href: a store to read from and a key in it."""

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from obstore.store import HTTPStore

from chipmill.errors import MissingError
from chipmill.io.store import Store
from chipmill.url import expanded


class Place(NamedTuple):
    """An object of a store; the store may be an HTTP server, which is read only."""

    store: Store
    key: str

    @property
    def is_near(self) -> bool:
        """Tell whether it is a file of this machine, which no request has to fetch."""
        return self.store.is_near


def place_of(href: str) -> Place:
    """Find the place of a file that is read where it lies.

    Args:
        href: An absolute URL (`https://`, `s3://`, `gs://`, `az://`, `file://`), or a path.

    Raises:
        MissingError: A local file is not there.
        StoreError: The scheme is none that chipmill reads.
    """
    parts = urlsplit(href)
    if parts.scheme in ("http", "https"):
        if parts.query:
            # A signature belongs to one file, so the store is this file.
            return Place(_server(href), "")
        folder, _, name = parts.path.rpartition("/")
        return Place(_server(urlunsplit((*parts[:2], folder, "", ""))), unquote(name))
    if parts.scheme in ("", "file"):
        path = expanded(unquote(parts.path) if parts.scheme else href).resolve()
        if not path.is_file():
            raise MissingError(f"nothing at {href}")
        return Place(_store(path.parent.as_uri()), path.name)
    return Place(_store(f"{parts.scheme}://{parts.netloc}"), unquote(parts.path.lstrip("/")))


@lru_cache(maxsize=64)
def _store(url: str) -> Store:
    return Store.open(url)


def _server(url: str) -> Store:
    shown = url.split("?", 1)[0]  # a query may be a signature, which no message may show
    return Store(shown, HTTPStore.from_url(url, client_options={"allow_http": True}))
