"""chips: the pixels of single chips of an export, several on their way at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from chipmill.formats import layout
from chipmill.formats.export import Export
from chipmill.formats.pack import PackHeader
from chipmill.formats.pack_index import PackEntry, decode_index
from chipmill.io.packed import read_pixels
from chipmill.io.store import Store
from chipmill.steps.pieces import Ordered, Piece, Run, load_manifest

AT_ONCE = 16
"""Chips that are on their way at a time; as many wait in memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """One chip of an export."""

    megabatch: int
    entry: PackEntry
    chip: int
    """Row of the chip in the pack."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Megabatch:
    """What is known of a megabatch."""

    number: int
    entries: list[PackEntry]
    ordered: Ordered


@dataclass(eq=False)
class Chips:
    """Reads the chips of an export; what it knows of the last megabatch stays in memory."""

    export: Export
    archive: Store
    _last: _Megabatch | None = field(init=False, default=None)

    def places(self, piece: Piece) -> list[Place]:
        """Find the chips of a file, in order."""
        return list(chain.from_iterable(self._places(piece, run) for run in piece.runs))

    def read(self, places: list[Place]) -> Iterator[tuple[Place, NDArray[np.uint8]]]:
        """Give the bytes of chips as they lie in their packs, in order."""
        left = iter(places)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while some := list(islice(left, AT_ONCE)):
                yield from zip(some, pool.map(self._read, some), strict=True)

    def headers(self) -> Iterator[PackHeader]:
        """Give the header of each pack."""
        for number in range(len(self.export.megabatches)):
            for entry in self._megabatch(number).entries:
                yield entry.header

    def _places(self, piece: Piece, run: Run) -> Iterator[Place]:
        known = self._megabatch(run.megabatch)
        for pack, chip in known.ordered.places(piece.group, run):
            yield Place(megabatch=run.megabatch, entry=known.entries[pack], chip=chip)

    def _megabatch(self, number: int) -> _Megabatch:
        if self._last is None or self._last.number != number:
            key = layout.export_index_key(self.export.name, number)
            self._last = _Megabatch(
                number=number,
                entries=decode_index(self.archive.get(key), where=self.archive.href(key)),
                ordered=Ordered.of(load_manifest(self.export, number, self.archive)),
            )
        return self._last

    def _read(self, place: Place) -> NDArray[np.uint8]:
        folder = layout.export_folder(place.megabatch)
        key = f"{layout.export_prefix(self.export.name)}{folder}/{place.entry.pack.file}"
        return read_pixels(self.archive, key, place.entry, chip=place.chip)
