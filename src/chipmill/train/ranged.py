"""Packs that lie in a store, read by ranges."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import PackError
from chipmill.formats import layout
from chipmill.formats.manifest import ManifestPack
from chipmill.formats.pack_index import PackEntry
from chipmill.io.packed import read_pixels
from chipmill.io.store import Store
from chipmill.train.packs import Pack


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
        if entry is None or (entry.pack.stated, len(entry.row)) != (pack.stated, pack.chips):
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
