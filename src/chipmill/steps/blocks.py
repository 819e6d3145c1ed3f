"""The blocks of a file that some chips need: each read and decoded once, and dropped after use."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from chipmill.errors import SceneError
from chipmill.io.blocks import Layer, Pixels, Spot
from chipmill.io.proven import OnePass
from chipmill.io.tiff import Tiff
from chipmill.model.archived import ArchivedFile
from chipmill.model.frame import Window
from chipmill.model.memory import Memory

WHOLE = 4
"""A file of which more than one part in so many is needed is read whole, in one pass."""


def check_header(tiff: Tiff, file: ArchivedFile, bands: tuple[int, ...]) -> None:
    """Refuse a file that is not the one that its item describes.

    Raises:
        SceneError: It has other bands or another size.
    """
    if tiff.image.shape != (file.grid.height, file.grid.width) or tiff.image.bands < max(bands):
        raise SceneError(
            f"{file.key} has {tiff.image.bands} bands of {tiff.image.shape[0]} x "
            f"{tiff.image.shape[1]} px, not band {max(bands)} of {file.grid.height} x "
            f"{file.grid.width} px as its item says; rewrite the scene"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which blocks are needed when."""

    first: list[list[Spot]]
    """By stripe those that no stripe before it needs, in the order of the file."""
    last: list[list[int]]
    """By stripe the numbers of those that no stripe after it needs."""

    @classmethod
    def of(cls, layer: Layer, bands: tuple[int, ...], stripes: Sequence[list[Window]]) -> "Wanted":
        """Find the blocks of each stripe's windows."""
        spots = {spot.number: spot for spot in layer.spots(bands, reach=layer.shape)}
        order = {number: place for place, number in enumerate(spots)}
        uses = [_blocks(layer, windows) for windows in stripes]
        begins, ends = dict[int, int](), dict[int, int]()
        for stripe, numbers in enumerate(uses):
            for number in numbers:
                begins.setdefault(number, stripe)
                ends[number] = stripe
        first = [list[Spot]() for _ in stripes]
        last = [list[int]() for _ in stripes]
        for number in sorted(begins, key=order.__getitem__):
            first[begins[number]].append(spots[number])
            last[ends[number]].append(number)
        return cls(first=first, last=last)

    def in_order(self, layer: Layer, bands: tuple[int, ...]) -> bool:
        """Tell whether one pass through the file meets the blocks as they are needed."""
        met = self._runs(layer, bands)
        return all(one[1] <= other[0] for one, other in pairwise(met))

    def size(self, layer: Layer, bands: tuple[int, ...]) -> int:
        """Add up the bytes of all blocks."""
        return sum(stop - start for start, stop in self._runs(layer, bands))

    def _runs(self, layer: Layer, bands: tuple[int, ...]) -> list[tuple[int, int]]:
        spots = [spot for stripe in self.first for spot in stripe]
        return [run for spot in spots for run in layer.runs(spot, bands).values()]


def _blocks(layer: Layer, windows: list[Window]) -> set[int]:
    """Number the blocks that some windows touch."""
    height, width = layer.block
    across = -(-layer.shape[1] // width)
    return {
        row * across + col
        for top, bottom, left, right in windows
        for row in range(top // height, -(-bottom // height))
        for col in range(left // width, -(-right // width))
    }


@dataclass(slots=True, kw_only=True, eq=False)
class Blocks:
    """The decoded blocks of one file, as far as they are needed now."""

    tiff: Tiff
    bands: tuple[int, ...]
    """Positions, counted from 1."""
    wanted: Wanted
    pool: Executor
    """Decodes."""
    one_pass: OnePass | None
    """None: each block is asked for by itself."""
    memory: Memory
    """For decoded blocks."""
    _decoded: "dict[int, Future[list[Pixels | None]]]" = field(
        init=False, default_factory=dict[int, "Future[list[Pixels | None]]"]
    )

    def ask(self, stripe: int) -> None:
        """Get what a stripe needs, and no stripe before it, on its way."""
        for spot in self.wanted.first[stripe]:
            self._decoded[spot.number] = self.pool.submit(*self._work(spot))

    def fill(self, out: NDArray[Any], band: int, *, top: int, left: int) -> None:
        """Copy pixels of a band.

        Args:
            out: Where they go, shape (y, x).
            band: The band's place among `bands`.
            top: First row.
            left: First column.

        Raises:
            SceneError: A block is damaged.
            TransientError: The store did not answer.
        """
        layer = self.tiff.image
        height, width = layer.block
        across = -(-layer.shape[1] // width)
        bottom, right = top + out.shape[0], left + out.shape[1]
        for row in range(top // height, -(-bottom // height)):
            for col in range(left // width, -(-right // width)):
                y, x = row * height, col * width
                ys = slice(max(top, y), min(bottom, y + height))
                xs = slice(max(left, x), min(right, x + width))
                pixels = self._decoded[row * across + col].result()[band]
                out[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left] = (
                    self.tiff.fill
                    if pixels is None
                    else pixels[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x]
                )

    def leave(self, stripe: int) -> None:
        """Let go of what no later stripe needs."""
        for number in self.wanted.last[stripe]:
            del self._decoded[number]

    def prove(self) -> None:
        """Make sure that what was read in one pass is what was copied.

        Raises:
            DamagedError: It is not.
        """
        if self.one_pass:
            self.one_pass.prove()

    def _work(self, spot: Spot) -> tuple[Callable[..., list[Pixels | None]], *tuple[Any, ...]]:
        """Say what decodes a block, with what; its bytes are taken here, in order."""
        if self.one_pass is None:
            return self.tiff.block, self.tiff.image, spot, self.bands
        places = self.tiff.image.runs(spot, self.bands)
        data = {plane: self.one_pass.take(*place) for plane, place in places.items()}
        decode = partial(self.tiff.decode, empty=self.memory.empty)
        return decode, self.tiff.image, spot, self.bands, data
