"""Packs that lie in a store, read by ranges; and the small files beside them.

A process that was forked cannot use a store if its parent has used one: the threads of obstore are
not there, and it would wait for them for ever. Local files are therefore read without it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import MissingError, PackError, RequestError, TransientError
from chipmill.formats import layout
from chipmill.formats.manifest import ManifestPack
from chipmill.formats.pack_index import PackEntry
from chipmill.io.packed import read_pixels
from chipmill.io.store import Store
from chipmill.train.packs import Pack

_users: set[int] = set()
"""Processes that have used a store: this one, and after a fork its parent."""


def local_folder(url: str) -> Path | None:
    """Give the folder that a URL names, where it is one of this host."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def open_store(url: str) -> Store:
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


@dataclass(frozen=True, slots=True)
class RangedPacks:
    """Opens packs that lie in a store, by what the table of their megabatch says."""

    store: Store
    folder: str
    entries: dict[str, PackEntry]

    def __call__(self, pack: ManifestPack) -> Pack:
        """Give a pack of the manifest.

        Raises:
            PackError: The table has another.
        """
        key = f"{self.folder}/{pack.file}"
        entry = self.entries.get(pack.file)
        if entry is None or (entry.pack.sha256, len(entry.row)) != (pack.sha256, pack.chips):
            raise PackError(
                f"{self.store.href(self.folder)}/{layout.CHIP_TABLE} does not have the pack "
                f"{pack.file} as the manifest beside it names it; export again"
            )
        return Pack.made(
            self.store.href(key),
            entry.header,
            chip_ids=tuple(entry.chip_id(chip) for chip in range(pack.chips)),
            latlon=np.column_stack([entry.lat, entry.lon]),
            cloud_fraction=entry.cloud_fraction,
            source=_Ranges(self.store, key, entry),
        )


@dataclass(frozen=True, slots=True)
class _Ranges:
    """Pixels in a store: a request a chip, many of them on their way at a time."""

    store: Store
    key: str
    entry: PackEntry

    def read(self, chip: int, parts: list[NDArray[np.uint8]], *, start: int, wait: bool) -> bool:
        """Read a chip's bytes by one request; never at once."""
        if wait:
            count = sum(map(len, parts))
            data = read_pixels(
                self.store, self.key, self.entry, chip=chip, start=start, count=count
            )
            at = 0
            for part in parts:
                part[:] = data[at : at + len(part)]
                at += len(part)
        return wait
