"""A short look at a TIFF that tells most files of data apart: those in which every pixel is data.

tifffile reads a header in 0.25 ms, most of it for objects of tags that nobody asks for; a scene
has a dozen files, of which most only have to be seen to hold every block and no mask. What is
unusual in any way is left to tifffile, which then has the word.

Numbers of tags and types: TIFF 6.0 (1992), and BigTIFF
(https://www.awaresystems.be/imaging/tiff/bigtiff.html).
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import SEEK_END
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from chipmill.model.grid import MAX_BLOCK

_DIRECTORIES = 64
_CLASSIC, _BIG = 42, 43
_TYPES = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}
"""Unsigned integers of 1, 2, 4 and 8 bytes, by their numbers."""
_MOST = 2**24
"""Bytes of the values of one tag."""
_KIND, _WIDTH, _HEIGHT, _BITS, _CODEC, _SAMPLES = 254, 256, 257, 258, 259, 277
_ROWS, _PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT = 278, 284, 317, 322, 323
_STRIP_STARTS, _STRIP_SIZES, _TILE_STARTS, _TILE_SIZES = 273, 279, 324, 325
_WANTED = {
    *(_KIND, _WIDTH, _HEIGHT, _BITS, _CODEC, _SAMPLES, _ROWS, _PLANAR, _PREDICTOR),
    *(_TILE_WIDTH, _TILE_HEIGHT, _STRIP_STARTS, _STRIP_SIZES, _TILE_STARTS, _TILE_SIZES),
}
_MASK = 4
_TOGETHER, _SEPARATE = 1, 2
_PLAIN_CODECS = {1, 5, 8, 32946, 50000}
"""None, LZW, DEFLATE (two numbers) and ZSTD."""
_PREDICTORS = {1, 2, 3}
_WHOLE_BITS = {8, 16, 32, 64}

Tags = Mapping[int, NDArray[np.unsignedinteger]]


def is_full(file: BinaryIO, *, shape: tuple[int, int], bands: int) -> bool:
    """Tell that a TIFF has this shape, at least so many bands, every block and no mask.

    Args:
        file: The TIFF.
        shape: Rows and columns that the picture must have.
        bands: How many it must have.

    Returns:
        False also for all that is damaged or out of the ordinary.

    Raises:
        TransientError: The store did not answer.
    """
    try:
        size = file.seek(0, SEEK_END)
        first, *others = _directories(_Whole(file, size))
        has_mask = any(_one(each, _KIND, 0) & _MASK for each in others)
        return not has_mask and _holds_all(first, size, shape, bands)
    except (struct.error, ValueError, LookupError, ArithmeticError):
        return False


def _holds_all(tags: Tags, size: int, shape: tuple[int, int], bands: int) -> bool:
    height, width = _one(tags, _HEIGHT), _one(tags, _WIDTH)
    samples = _one(tags, _SAMPLES, 1)
    tiled = _TILE_WIDTH in tags
    rows = _one(tags, _TILE_HEIGHT) if tiled else min(_one(tags, _ROWS, height), height)
    across = _one(tags, _TILE_WIDTH) if tiled else width
    planes = {_TOGETHER: 1, _SEPARATE: samples}[_one(tags, _PLANAR, _TOGETHER)]
    number = planes * -(-height // rows) * -(-width // across)
    starts = tags[_TILE_STARTS if tiled else _STRIP_STARTS]
    sizes = tags[_TILE_SIZES if tiled else _STRIP_SIZES]
    return (
        (height, width) == shape
        and samples >= bands
        and rows * across <= MAX_BLOCK
        and len(starts) == len(sizes) == number
        and bool(starts.all() and sizes.all())
        and int((starts.astype(np.uint64) + sizes).max()) <= size
        and _one(tags, _CODEC, 1) in _PLAIN_CODECS
        and _one(tags, _PREDICTOR, 1) in _PREDICTORS
        and set(tags[_BITS].tolist()) <= _WHOLE_BITS
    )


def _one(tags: Tags, number: int, default: int | None = None) -> int:
    if default is not None and number not in tags:
        return default
    return int(tags[number][0])


@dataclass(frozen=True, slots=True)
class _Whole:
    """A file of which nothing is asked that it does not have."""

    file: BinaryIO
    size: int

    def run(self, start: int, count: int) -> bytes:
        """Read bytes from a place on."""
        if start + count > self.size:
            raise ValueError(start, count)
        self.file.seek(start)
        return self.file.read(count)


def _directories(whole: _Whole) -> Iterator[Tags]:
    """Read the directories in their order, of each the tags that are wanted."""
    head = whole.run(0, 16)
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version == _CLASSIC:
        number, entry, place = (
            struct.Struct(f"{order}H"),
            f"{order}HHI4s",
            struct.Struct(f"{order}I"),
        )
        (at,) = place.unpack_from(head, 4)
    elif version == _BIG and struct.unpack_from(f"{order}HH", head, 4) == (8, 0):
        number, entry, place = (
            struct.Struct(f"{order}Q"),
            f"{order}HHQ8s",
            struct.Struct(f"{order}Q"),
        )
        (at,) = place.unpack_from(head, 8)
    else:
        raise ValueError(version)
    for _ in range(_DIRECTORIES):
        if not at:
            return
        (count,) = number.unpack(whole.run(at, number.size))
        table = whole.run(at + number.size, count * struct.calcsize(entry))
        (at,) = place.unpack(whole.run(at + number.size + len(table), place.size))
        yield {
            tag: _values(whole, np.dtype(order + _TYPES[kind]), many, held, place)
            for tag, kind, many, held in struct.iter_unpack(entry, table)
            if tag in _WANTED
        }
    raise ValueError(_DIRECTORIES)


def _values(
    whole: _Whole,
    dtype: np.dtype[np.unsignedinteger],
    count: int,
    held: bytes,
    place: struct.Struct,
) -> NDArray[np.unsignedinteger]:
    """Give the values of a tag, which lie in its entry where they are few, else elsewhere."""
    size = count * dtype.itemsize
    if size > _MOST:
        raise ValueError(size)
    if size > len(held):
        (at,) = place.unpack(held)
        held = whole.run(at, size)
    return np.frombuffer(held, dtype, count)
