"""Where each byte of a chip goes: into the array at once, or by way of the finest grid."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.formats.pack import PackBand
from chipmill.train.resize import onto_finest
from chipmill.train.view import Resize


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Bytes of a chip that are read into one place."""

    first: int
    """Byte of the scratch memory, or of the chip's place in the array, where they begin."""
    stop: int
    direct: bool
    """Whether they go into the array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spread:
    """Bands of one kind, side by side in the scratch memory and in the array."""

    out: int
    """The first of them in the array."""
    start: int
    """First byte in the scratch memory."""
    shape: tuple[int, int, int]
    """Shape (bands, y, x)."""
    dtype: str

    @property
    def size(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way of some bands of a group of packs into an array."""

    start: int
    """First byte of a chip that is read."""
    scratch: int
    """Bytes of scratch memory."""
    resize: Resize
    pieces: tuple[_Piece, ...]
    spreads: tuple[_Spread, ...]


class Desk:
    """Where one thread puts the chips of a route on their way into an array."""

    def __init__(self, route: Route, scratch: NDArray[np.uint8]) -> None:
        """Lay out the scratch memory, shape (at least `route.scratch`,)."""
        self._resize: Resize = route.resize
        self._parts = [
            (piece, None if piece.direct else scratch[piece.first : piece.stop])
            for piece in route.pieces
        ]
        self._spreads = [
            (
                slice(one.out, one.out + one.shape[0]),
                scratch[one.start : one.start + one.size].view(one.dtype).reshape(one.shape),
            )
            for one in route.spreads
        ]

    def parts(self, out: NDArray[Any]) -> list[NDArray[np.uint8]]:
        """Say where a chip's bytes are to be read to, one part after the other.

        Args:
            out: Shape (bands, y, x), contiguous.
        """
        row = out.reshape(-1).view(np.uint8)
        return [
            row[piece.first : piece.stop] if part is None else part for piece, part in self._parts
        ]

    def spread(self, out: NDArray[Any]) -> None:
        """Bring what was read into the scratch memory onto the finest grid of the array."""
        for bands, values in self._spreads:
            onto_finest(values, out=out[bands], resize=self._resize)


def find_route(
    bands: Sequence[PackBand], *, size: int, dtype: "np.dtype[np.generic]", resize: Resize
) -> Route:
    """Plan the way of some bands into an array.

    Args:
        bands: The bands that are wanted, as they lie in the pack, in the order of the array.
        size: Edge of the finest grid in pixels.
        dtype: Data type of the array.
        resize: How coarser bands come onto the finest grid.
    """
    first = min(band.start for band in bands)
    stop = max(band.start + band.size for band in bands)
    times = Counter(band.start for band in bands)
    direct = {
        band.start: number
        for number, band in enumerate(bands)
        if band.shape == (size, size) and band.dtype == dtype.name and times[band.start] == 1
    }
    width = size * size * dtype.itemsize
    return Route(
        start=first,
        scratch=stop - first,
        resize=resize,
        pieces=tuple(
            replace(piece, first=piece.first * width, stop=piece.stop * width)
            if piece.direct
            else piece
            for piece in _pieces(bands, direct, first=first, stop=stop)
        ),
        spreads=tuple(_spreads(bands, direct, first=first)),
    )


def _pieces(
    bands: Sequence[PackBand], direct: dict[int, int], *, first: int, stop: int
) -> list[_Piece]:
    """Cut the bytes from `first` to `stop` where their ways part; into the array, by bands."""
    pieces: list[_Piece] = []
    at = first
    for start in sorted(direct):
        number = direct[start]
        if at < start:
            pieces.append(_Piece(first=at - first, stop=start - first, direct=False))
        elif pieces and pieces[-1].direct and pieces[-1].stop == number:
            number = pieces.pop().first
        pieces.append(_Piece(first=number, stop=direct[start] + 1, direct=True))
        at = start + bands[direct[start]].size
    if at < stop:
        pieces.append(_Piece(first=at - first, stop=stop - first, direct=False))
    return pieces


def _spreads(bands: Sequence[PackBand], direct: dict[int, int], *, first: int) -> list[_Spread]:
    """Join bands that can be brought onto the finest grid together."""
    spreads: list[_Spread] = []
    for number, band in enumerate(bands):
        if band.start in direct:
            continue
        dtype = np.dtype(band.dtype).newbyteorder("<").str
        one = _Spread(out=number, start=band.start - first, shape=(1, *band.shape), dtype=dtype)
        last = spreads[-1] if spreads else None
        if (
            last is not None
            and (last.dtype, last.shape[1:]) == (dtype, band.shape)
            and (last.out + last.shape[0], last.start + last.size) == (one.out, one.start)
        ):
            spreads.pop()
            one = _Spread(
                out=last.out,
                start=last.start,
                shape=(last.shape[0] + 1, *band.shape),
                dtype=dtype,
            )
        spreads.append(one)
    return spreads
