"""Open a file where the provider keeps it, to read its header: by ranges, never as a whole."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import from_url

from chipmill.errors import MissingError, StoreError
from chipmill.io.raster import Raster, open_raster
from chipmill.io.store import Store


@contextmanager
def open_remote(href: str) -> Generator[Raster]:
    """Open a GeoTIFF by its URL: `https://`, `s3://`, `gs://`, `az://`, `file://`.

    Raises:
        SceneError: It is no GeoTIFF that can be used; JPEG 2000 is none until it is copied.
        MissingError: There is nothing at this URL.
        StoreError: The provider refuses, or it is no such URL.
        TransientError: The provider did not answer.
    """
    parts = urlsplit(href)
    folder, _, name = parts.path.rpartition("/")
    root = f"{parts.scheme}://{parts.netloc}{folder}"
    query = f"?{parts.query}" if parts.query else ""
    if query and parts.scheme in ("http", "https"):
        raise StoreError(f"{root}/{name} has a query, by which no ranges are read; copy it first")
    with open_raster(_store(root), unquote(name)) as raster:
        yield raster


def _store(root: str) -> Store:
    if root.startswith("file:///") and not Path(unquote(urlsplit(root).path)).is_dir():
        raise MissingError(f"nothing at {root}")
    if not root.startswith(("http://", "https://")):
        return Store.open(root)
    try:
        return Store(root, from_url(root, client_options={"allow_http": True}))
    except (BaseError, ValueError) as err:
        raise StoreError(f"{root} cannot be opened ({err})") from err
