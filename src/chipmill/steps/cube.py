"""cube: chips of one platform as Clay's own data module reads them."""

import hashlib
import zipfile
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import BinaryIO, cast

import numpy as np

from chipmill.formats.clay import ARRAYS, chip_pixels, chosen_bands, place_and_time, platform_of
from chipmill.formats.rendering import RenderedFile
from chipmill.io.store import PART_BYTES, Store
from chipmill.steps.chips import Chips, Place
from chipmill.steps.pieces import Piece

LEVEL = 1
"""Of zlib: its default takes ten times as long, and saves a tenth (docs/adr/0039)."""


def write_cube(piece: Piece, chips: Chips, archive: Store, *, key: str) -> RenderedFile:
    """Write a cube through a temporary file; memory holds some chips.

    Raises:
        RequestError: A scene lacks bands of Clay's.
        PackError: A pack is damaged.
    """
    places = chips.places(piece)
    with TemporaryFile(prefix="chipmill-") as file:
        _fill(file, places, chips)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        file.seek(0)
        archive.write(key, _pieces(file))
    return RenderedFile(file=piece.file, chips=len(places), size=size, sha256=digest)


def _fill(file: BinaryIO, places: list[Place], chips: Chips) -> None:
    """Write the arrays as `numpy.load` reads them, a chip at a time; entries have no time."""
    header = places[0].entry.header
    platform = platform_of(header.collection)
    edge = header.chip_size
    shape = (len(places), len(chosen_bands(header, platform)), edge, edge)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as cube:
        with cube.open("pixels.npy", "w", force_zip64=True) as pixels:
            said = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(cast("BinaryIO", pixels), said)
            for place, record in chips.read(places):
                pixels.write(chip_pixels(record, place.entry.header, platform).tobytes())
        arrays = place_and_time(
            lat=[float(place.entry.lat[place.chip]) for place in places],
            lon=[float(place.entry.lon[place.chip]) for place in places],
            time=[place.entry.header.datetime for place in places],
        )
        for name in ARRAYS:
            with cube.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(cast("BinaryIO", member), arrays[name])


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Read a file in pieces."""
    while piece := file.read(PART_BYTES):
        yield piece
