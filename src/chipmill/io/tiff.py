"""The blocks of a GeoTIFF: where they lie, read by ranges of bytes, each decoded once.

GDAL reads pixels by windows and decodes a block for each of them; who goes through a whole file
asks for the blocks themselves. What chipmill's own archives and most providers hold, lossless
blocks, is decoded by imagecodecs; all other blocks by GDAL, which has the last word on what is
damaged as well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import SEEK_END
from itertools import count, islice
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from obstore import Bytes
from tifffile import TiffFile, TiffPage

from chipmill.errors import ChipmillError, SceneError
from chipmill.io.blocks import Decode, Empty, Layer, Pixels, Spot, decoder
from chipmill.io.remote import GAP, open_file
from chipmill.io.store import Store
from chipmill.model.grid import MAX_BLOCK
from chipmill.model.memory import new
from chipmill.model.scratch import Scratch

_DIRECTORIES = 64
"""So many are looked through for a mask; a file has two and some overviews."""
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions of TIFF: none, LZW, DEFLATE (two numbers), PackBits, LZMA, ZSTD."""
_NODATA = 42113
"""Tag of GDAL: the nodata value as text."""
_MASK = 4
"""NewSubfileType of a directory that is the mask of the picture (TIFF 6.0, tag 254)."""
_ALPHA = {1, 2}
"""Values of ExtraSamples that mean alpha (TIFF 6.0, tag 338)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiff:
    """A GeoTIFF of which the header is read."""

    store: Store
    key: str
    size: int
    """Bytes."""
    image: Layer
    mask: Layer | None
    """Says which pixels of the picture are data, by other values than 0."""
    alpha: int | None
    """Position of the first alpha band, counted from 1."""
    fill: float
    """What GDAL reads where a block is not there: the header's nodata value, else 0."""

    def read(
        self, layer: Layer, batch: list[Spot], bands: tuple[int, ...], scratch: Scratch
    ) -> Iterator[tuple[Spot, list[Pixels | None]]]:
        """Read some blocks.

        Args:
            layer: The layer that they belong to.
            batch: Where they lie.
            bands: Positions of the bands, counted from 1.
            scratch: Where they are decoded.

        Yields:
            Each block with the pixels of its bands, of shape (y, x) each, which are there until the
            next block is asked for; None where the file holds nothing for a band.

        Raises:
            SceneError: A block is damaged.
            TransientError: The store did not answer.
        """
        if not is_lossless(layer):
            yield from self._by_gdal(layer, batch, bands)
            return
        planes = list(dict(layer.places(bands)))
        wanted = [(plane, spot.number) for spot in batch for plane in planes]
        there = [segment for segment in wanted if layer.sizes[segment]]
        starts = [int(layer.starts[segment]) for segment in there]
        ends = [int(layer.starts[segment] + layer.sizes[segment]) for segment in there]
        if max(ends, default=0) > self.size:
            raise SceneError(
                f"{self.store.href(self.key)} is damaged: it has {self.size} bytes and blocks that "
                f"end at {max(ends)}; copy the scene again or drop it"
            )
        rooms = count()

        def room(size: int) -> NDArray[np.uint8]:
            return scratch.array(f"block {next(rooms)}", (size,), np.dtype(np.uint8))

        found = self.store.ranges(self.key, starts, ends, gap=GAP, empty=room)
        data = dict(zip(there, found, strict=True))
        decode = decoder(layer, empty=room)
        for spot in batch:
            parts = {plane: data.get((plane, spot.number)) for plane in planes}
            yield spot, self._decode(decode, layer, spot, bands, parts)

    def block(self, layer: Layer, spot: Spot, bands: tuple[int, ...]) -> list[Pixels | None]:
        """Read one block, into memory of its own; see `read`."""
        return next(pixels for _, pixels in self.read(layer, [spot], bands, Scratch()))

    def decode(
        self,
        layer: Layer,
        spot: Spot,
        bands: tuple[int, ...],
        data: Mapping[int, Bytes | memoryview | bytes | None],
        *,
        empty: Empty = new,
    ) -> list[Pixels | None]:
        """Decode one block of which the bytes are here, into memory of its own.

        Args:
            layer: The layer that it belongs to.
            spot: Where it lies.
            bands: Positions of the bands, counted from 1.
            data: Its bytes by plane; missing or None where the file holds nothing.
            empty: Gives the memory.

        Returns:
            The pixels of the bands, as `read` yields them.

        Raises:
            SceneError: The block is damaged.
        """
        return self._decode(decoder(layer, empty=empty), layer, spot, bands, data)

    def _decode(
        self,
        decode: Decode,
        layer: Layer,
        spot: Spot,
        bands: tuple[int, ...],
        data: Mapping[int, Bytes | memoryview | bytes | None],
    ) -> list[Pixels | None]:
        try:
            decoded = {
                plane: None if part is None else decode(cast("Bytes", part), spot, plane)
                for plane, part in data.items()
            }
        except Exception:  # noqa: BLE001  # a codec raises what it likes; GDAL says what is wrong
            return next(pixels for _, pixels in self._by_gdal(layer, [spot], bands))
        parts = [(decoded.get(plane), sample) for plane, sample in layer.places(bands)]
        return [None if part is None else part[..., sample] for part, sample in parts]

    def _by_gdal(
        self, layer: Layer, batch: list[Spot], bands: tuple[int, ...]
    ) -> Iterator[tuple[Spot, list[Pixels | None]]]:
        # GDAL takes 37 MB and a third of a second to load, and most scenes do without it.
        from chipmill.io.raster import open_raster  # noqa: PLC0415

        with open_raster(self.store, self.key) as raster:
            for spot in batch:
                if not layer.is_there(spot, bands):
                    yield spot, [None] * len(bands)
                    continue
                window = (spot.top, spot.left, *spot.shape)
                if layer.is_mask:
                    yield spot, [raster.valid(*window)]
                else:
                    yield spot, list(raster.window(*window, bands=bands))


def is_lossless(layer: Layer) -> bool:
    """Tell whether the blocks of a layer are decoded here, not by GDAL."""
    return int(layer.page.compression) in _LOSSLESS


def open_tiff(store: Store, key: str) -> Tiff:
    """Read the header of a GeoTIFF.

    Raises:
        SceneError: It is no TIFF, or declares more than is sane.
        MissingError: There is nothing at this key.
        TransientError: The store did not answer.
    """
    with open_file(store, key) as file:
        return tiff_in(file, store, key)


def tiff_in(file: BinaryIO, store: Store, key: str) -> Tiff:
    """Read the header of a GeoTIFF that is open; see `open_tiff`."""
    where = store.href(key)
    try:
        with TiffFile(file) as tiff:
            pages = cast("list[TiffPage]", list(islice(tiff.pages, _DIRECTORIES)))
            image = _layer(pages[0], where)
            masks = (page for page in pages[1:] if int(page.subfiletype) == _MASK)
            mask = next((page for page in masks if page.shape[:2] == image.shape), None)
            return Tiff(
                store=store,
                key=key,
                size=file.seek(0, SEEK_END),
                image=image,
                mask=_layer(mask, where, is_mask=True) if mask else None,
                alpha=_alpha(pages[0]),
                fill=_fill(pages[0], image.dtype),
            )
    except ChipmillError:
        raise
    except Exception as err:  # a parser of hostile bytes raises what it likes
        raise SceneError(f"{where} is not a raster that can be used ({err})") from err


def _layer(page: TiffPage, where: str, *, is_mask: bool = False) -> Layer:
    height, width = page.imagelength, page.imagewidth
    block = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    block = min(block[0], height) if not page.is_tiled else block[0], block[1]
    planes = page.samplesperpixel if page.planarconfig == 2 else 1  # noqa: PLR2004  # TIFF 6.0, tag 284
    number = -(-height // block[0]) * -(-width // block[1])
    if block[0] * block[1] > MAX_BLOCK or page.dtype is None:
        raise SceneError(f"{where} has blocks of {block[0]} x {block[1]} px, which are not read")
    if int(page.compression) in _LOSSLESS:
        _ = page.decode  # made once, before several threads ask for it
    return Layer(
        page=page,
        shape=(height, width),
        block=block,
        bands=page.samplesperpixel,
        dtype=page.dtype,
        starts=np.array(page.dataoffsets, np.int64).reshape(planes, number),
        sizes=np.array(page.databytecounts, np.int64).reshape(planes, number),
        is_mask=is_mask,
    )


def _fill(page: TiffPage, dtype: np.dtype[Any]) -> float:
    """Give the nodata value that the header states, where pixels can have it.

    tifffile takes some for impossible that are not: 32767 in int16.
    """
    tag = page.tags.get(_NODATA)
    try:
        stated = float(str(tag.value).rstrip("\0 ")) if tag else 0.0
    except ValueError:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        own = np.array(stated).astype(dtype)
    return stated if dtype.kind == "f" or own == stated else 0.0


def _alpha(page: TiffPage) -> int | None:
    extra = [int(kind) for kind in page.extrasamples]
    first = page.samplesperpixel - len(extra) + 1
    return next((first + place for place, kind in enumerate(extra) if kind in _ALPHA), None)
