"""Small files of an archive or an export, on a disk or in a store.

A process that was forked cannot use a store if its parent has used one: the threads of obstore are
not there, and it would wait for them for ever. Local files are therefore read without it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from chipmill.errors import MissingError, RequestError, TransientError

if TYPE_CHECKING:
    from chipmill.io.store import Store  # loaded for stores alone

_users: set[int] = set()
"""Processes that have used a store: this one, and after a fork its parent."""


def local_folder(url: str) -> Path | None:
    """Give the folder that a URL names, where it is one of this host."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def open_store(url: str) -> "Store":
    """Open a store in a process that can use it.

    Raises:
        RequestError: The process was forked from one that has used a store.
        StoreError: The URL names no store.
    """
    if _users - {os.getpid()}:
        raise RequestError(
            f"a worker process that was forked cannot read {url}; give the DataLoader "
            "multiprocessing_context='spawn', or no workers: chips are read side by side anyway"
        )
    from chipmill.io.store import Store  # noqa: PLC0415  # see above

    _users.add(os.getpid())
    return Store.open(url)


def read_file(url: str, key: str) -> bytes:
    """Read a small file below a URL.

    Raises:
        MissingError: There is none.
        TransientError: The place does not answer.
    """
    folder = local_folder(url)
    if folder is None:
        return open_store(url).get(key)
    try:
        return (folder / key).read_bytes()
    except FileNotFoundError as err:
        raise MissingError(f"nothing at {folder / key}") from err
    except OSError as err:
        raise TransientError(f"{folder / key} cannot be read ({err}); look at the disk") from err
