"""tar: chips as samples of a WebDataset, streamed into the store."""

import hashlib
from collections.abc import Iterator

from chipmill.formats.rendering import RenderedFile
from chipmill.formats.tar_samples import END, sample
from chipmill.io.store import Store
from chipmill.steps.chips import Chips, Place
from chipmill.steps.pieces import Piece


def write_tar(piece: Piece, chips: Chips, archive: Store, *, key: str) -> RenderedFile:
    """Write a tar file; memory holds some chips.

    Raises:
        PackError: A pack is damaged.
    """
    places = chips.places(piece)
    digest, size = hashlib.sha256(), 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for data in _samples(places, chips):
            digest.update(data)
            size += len(data)
            yield data

    archive.write(key, counted())
    return RenderedFile(file=piece.file, chips=len(places), size=size, sha256=digest.hexdigest())


def _samples(places: list[Place], chips: Chips) -> Iterator[bytes]:
    for place, record in chips.read(places):
        yield from sample(place.entry, place.chip, record)
    yield END
