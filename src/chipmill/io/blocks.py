"""The blocks of one directory of a TIFF: where they lie, and how one is decoded."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from obstore import Bytes
from tifffile import TiffPage

from chipmill.errors import SceneError
from chipmill.model.memory import new

Pixels = NDArray[Any]

BATCH = 2 * 2**20
"""Bytes of blocks that are asked for at once; what one thread holds in memory."""
BATCH_BLOCKS = 256
_DEFLATE = {8, 32946}
_HORIZONTAL = 2
"""Predictor of differences along rows (TIFF 6.0, tag 317)."""
_NATIVE = "<" if sys.byteorder == "little" else ">"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a block lies."""

    number: int
    top: int
    left: int
    """First row and column of the file."""
    shape: tuple[int, int]
    """Rows and columns of it that are read: those inside the file, and not beyond the reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One directory of a TIFF: the picture, or its mask."""

    page: TiffPage
    shape: tuple[int, int]
    block: tuple[int, int]
    """Rows and columns of a block."""
    bands: int
    dtype: np.dtype[Any]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    """Bytes of each block in the file, shape (planes, blocks); size 0: it is not there."""
    is_mask: bool = False

    def spots(self, bands: tuple[int, ...], *, reach: tuple[int, int]) -> list[Spot]:
        """List the blocks within `reach` (rows, columns of the file), in the order of the file."""
        height, width = self.block
        across = -(-self.shape[1] // width)
        found = [
            Spot(
                number=top // height * across + left // width,
                top=top,
                left=left,
                shape=(min(height, reach[0] - top), min(width, reach[1] - left)),
            )
            for top in range(0, reach[0], height)
            for left in range(0, reach[1], width)
        ]
        plane = self.places(bands)[0][0]
        return sorted(found, key=lambda spot: int(self.starts[plane, spot.number]))

    def places(self, bands: tuple[int, ...]) -> list[tuple[int, int]]:
        """Give the plane of each band, and its place among the samples there."""
        separate = len(self.starts) > 1
        return [(band - 1, 0) if separate else (0, band - 1) for band in bands]

    def runs(self, spot: Spot, bands: tuple[int, ...]) -> dict[int, tuple[int, int]]:
        """Say by plane from where to where the bytes of a block lie, of those that are there."""
        number = spot.number
        return {
            plane: (int(self.starts[plane, number]), int(self.starts[plane, number]) + size)
            for plane in dict.fromkeys(plane for plane, _ in self.places(bands))
            if (size := int(self.sizes[plane, number]))
        }

    def is_there(self, spot: Spot, bands: tuple[int, ...]) -> bool:
        """Tell whether the file holds the block of any of these bands."""
        return any(self.sizes[plane, spot.number] for plane, _ in self.places(bands))

    def is_whole(self, bands: tuple[int, ...]) -> bool:
        """Tell whether the file holds every block of the first of these bands."""
        return bool(self.sizes[self.places(bands)[0][0]].all())

    def batches(self, spots: Iterable[Spot], bands: tuple[int, ...]) -> Iterator[list[Spot]]:
        """Put blocks together that are read at once."""
        planes = list(dict(self.places(bands)))
        batch: list[Spot] = []
        size = 0
        for spot in spots:
            batch.append(spot)
            size += int(self.sizes[planes, spot.number].sum())
            if size >= BATCH or len(batch) >= BATCH_BLOCKS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


Empty = Callable[[int], NDArray[np.uint8]]
"""Gives memory of so many bytes."""
Decode = Callable[[Bytes | bytes, Spot, int], Pixels]
"""Decodes one block of a plane: shape (y, x, samples)."""


def decoder(layer: Layer, *, empty: Empty = new) -> Decode:
    """Give what decodes the blocks of a layer, one after the other.

    Args:
        layer: The layer.
        empty: Gives the memory for the blocks of a plane, which each overwrites.
    """
    page, dtype = layer.page, layer.dtype
    if (
        int(page.compression) in _DEFLATE
        and int(page.predictor) == _HORIZONTAL
        and page.is_tiled
        and len(layer.starts) == layer.bands
        and (dtype.kind, page.bitspersample) in {("u", 8), ("u", 16), ("i", 16)}
        and (dtype.itemsize == 1 or page.parent.byteorder == _NATIVE)
        and page.fillorder == 1
    ):
        return _deltas(layer, empty)

    def decode(data: Bytes | bytes, spot: Spot, plane: int) -> Pixels:
        index = plane * layer.starts.shape[1] + spot.number
        pixels, _, _ = page.decode(cast("bytes", data), index)
        if pixels is None:
            raise SceneError("a block without pixels")
        return pixels[0, : spot.shape[0], : spot.shape[1]]

    return decode


def _deltas(layer: Layer, empty: Empty) -> Decode:
    """Decode what nearly all quality bands are, DEFLATE of differences along rows.

    Half of the time goes into adding the differences up, which is done for the pixels that are
    wanted only, in memory that is used again for the next block.
    """
    blocks: dict[int, NDArray[np.uint8]] = {}
    size = layer.block[0] * layer.block[1] * layer.dtype.itemsize

    def decode(data: Bytes | bytes, spot: Spot, plane: int) -> Pixels:
        if plane not in blocks:
            blocks[plane] = empty(size)
        block = blocks[plane]
        found = cast("Any", imagecodecs).deflate_decode(data, out=block)
        if len(found) != size:
            raise SceneError("a block that is too short")
        pixels = block.view(layer.dtype).reshape(layer.block)[: spot.shape[0], : spot.shape[1]]
        return cast("Any", imagecodecs).delta_decode(pixels, axis=-1, out=pixels)[..., np.newaxis]

    return decode
