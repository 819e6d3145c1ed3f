"""Tell the nodata pixels of a file, and count pixels chip by chip, block after block of it."""

from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.model.grid import ChipGrid, Grid, ratio, spans

Pixels = NDArray[Any]
Masks = Callable[[tuple[Pixels, ...], NDArray[np.bool_]], None]
"""Writes masks of the pixels of some bands, each of shape (y, x), into an array (masks, y, x)."""

_PIECE = 128
"""Rows that are judged at once: they stay in the cache of a core, and a column's sum in a byte."""


_ADD, _ADD_AT = np.add.reduce, np.add.reduceat


def nodata_mask(values: NDArray[np.generic], nodata: float | None) -> NDArray[np.bool_]:
    """Tell the nodata pixels of an asset.

    Args:
        values: Shape (bands, y, x).
        nodata: Digital number that means nodata, NaN included; None: every pixel is data.

    Returns:
        Shape (y, x): true where *all* bands are nodata, as GDAL's dataset mask has it; a single
        dark band of an aerial photograph is a dark pixel.
    """
    found = np.zeros((1, *values.shape[1:]), np.bool_)
    tells = nodata_masks(nodata, values.dtype)
    if tells:
        tells(tuple(values), found)
    return found[0]


def nodata_masks(nodata: float | None, dtype: np.dtype[Any]) -> Masks | None:
    """Give what tells where all bands of a file are nodata; None where no pixel can be."""
    if nodata is None:
        return None
    if np.isnan(nodata):
        return None if dtype.kind in "iu" else lambda bands, out: _all(np.isnan, bands, out[0])
    # In the file's own type: a comparison with a float would first turn every pixel into a float.
    with np.errstate(invalid="ignore", over="ignore"):  # 1e20 in a file of bytes
        own = np.array(nodata).astype(dtype)
    if own != nodata if dtype.kind in "iu" else np.isinf(own) != np.isinf(nodata):
        return None
    equal = partial(np.equal, own)
    return lambda bands, out: _all(equal, bands, out[0])


def _all(test: Callable[..., Pixels], bands: tuple[Pixels, ...], out: NDArray[np.bool_]) -> None:
    test(bands[0], out=out)
    for band in bands[1:]:
        np.logical_and(out, test(band), out=out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The pixels of one file that each chip of its scene touches."""

    down: NDArray[np.int64]
    """First row of each row of chips and the one after the last: shape (rows, 2)."""
    across: NDArray[np.int64]
    """The same of the columns: shape (cols, 2)."""

    @classmethod
    def of(cls, chips: ChipGrid, *, grid: Grid, where: str) -> "Windows":
        """Lay the chips of a scene over the grid of one of its files, which `where` names.

        Raises:
            SceneError: The file does not align with the grid of the chips.
        """
        scale, size = ratio(grid, fine=chips.grid, where=where), chips.size
        y, x = scale.inset
        return cls(
            down=spans(chips.rows, size=size, ratio=scale.y, limit=grid.height, inset=y),
            across=spans(chips.cols, size=size, ratio=scale.x, limit=grid.width, inset=x),
        )

    @property
    def pixels(self) -> NDArray[np.int64]:
        """How many pixels each chip touches: shape (rows, cols)."""
        return np.diff(self.down, axis=1) * np.diff(self.across, axis=1).T


class Tally:
    """Counts pixels of one file, block by block, in any order and from several threads.

    The edges of all chips cut the file into cells, which belong to no, one or several chips; a
    pixel is counted once, in its cell, and chips are sums of cells. So chips may overlap, as they
    do where a coarse pixel lies under two of them, and blocks may straddle them.
    """

    def __init__(self, windows: Windows, *, masks: int) -> None:
        """Begin at nothing; `masks` is how many kinds of pixels are counted."""
        self._windows = windows
        self._ys, self._xs = np.unique(windows.down), np.unique(windows.across)
        self._cells = np.zeros((masks, len(self._ys) - 1, len(self._xs) - 1), np.int64)
        self._lock = Lock()

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of the file that belong to chips; what lies beyond need not be read."""
        return int(self._ys[-1]), int(self._xs[-1])

    def add(self, bands: tuple[Pixels, ...], masks: Masks, *, top: int, left: int) -> None:
        """Count the pixels of one block.

        Args:
            bands: Its pixels, each of shape (y, x).
            masks: Tells which of them count, in as many masks as there are kinds.
            top: Row of the file at which the block begins.
            left: Column of the file at which it begins.
        """
        height, width = bands[0].shape
        row, ys = _cut(self._ys, top, top + height)
        col, xs = _cut(self._xs, left, left + width)
        starts, ends = _pieces((ys - top).tolist())
        used = int(xs[-1]) - left
        mask = np.empty((len(self._cells), _PIECE, used), np.bool_)
        columns = np.empty((len(starts), len(self._cells), used), np.uint8)
        for first, last, column in zip(starts, ends, columns, strict=True):
            found = mask[:, : last - first]
            masks(tuple(band[first:last, :used] for band in bands), found)
            _ADD(found.view(np.uint8), axis=1, dtype=np.uint8, out=column)
        cells = _ADD_AT(columns, xs[:-1] - left, axis=2, dtype=np.int64)
        cells = _ADD_AT(cells, np.searchsorted(starts, ys[:-1] - top), axis=0)
        self._put(row, col, cells.swapaxes(0, 1))

    def add_whole(self, shape: tuple[int, int], *, top: int, left: int) -> None:
        """Count all pixels of a block (y, x), in each kind, without looking at them."""
        row, ys = _cut(self._ys, top, top + shape[0])
        col, xs = _cut(self._xs, left, left + shape[1])
        self._put(row, col, np.diff(ys)[:, None] * np.diff(xs))

    def chips(self) -> NDArray[np.int64]:
        """Give the counts so far: shape (masks, rows, cols)."""
        total = np.zeros(np.add(self._cells.shape, (0, 1, 1)), np.int64)
        total[:, 1:, 1:] = self._cells.cumsum(axis=1).cumsum(axis=2)
        y, x = (
            np.searchsorted(edges, spans)
            for edges, spans in ((self._ys, self._windows.down), (self._xs, self._windows.across))
        )
        rows = total[:, y[:, 1]] - total[:, y[:, 0]]
        return rows[:, :, x[:, 1]] - rows[:, :, x[:, 0]]

    def share(self, counts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Turn counts into shares of the pixels of each chip, both of shape (rows, cols)."""
        return (counts / self._windows.pixels).astype(np.float32)

    def _put(self, row: int, col: int, cells: NDArray[np.int64]) -> None:
        height, width = cells.shape[-2:]
        with self._lock:
            self._cells[:, row : row + height, col : col + width] += cells


def _pieces(edges: list[int]) -> tuple[list[int], list[int]]:
    """Cut cells into pieces of some rows at most; gives the first row of each and the one after."""
    starts = [row for first, last in pairwise(edges) for row in range(first, last, _PIECE)]
    ends = [min(row + _PIECE, edges[bisect(edges, row)]) for row in starts]
    return starts, ends


def _cut(edges: NDArray[np.int64], first: int, last: int) -> tuple[int, NDArray[np.int64]]:
    """Cut a stretch of pixels at the edges inside; gives the number of its first cell as well.

    What lies beyond the last edge is cut off.
    """
    last = min(last, int(edges[-1]))
    start = int(np.searchsorted(edges, first, side="right"))
    end = int(np.searchsorted(edges, last))
    return start - 1, np.concatenate(([first], edges[start:end], [last]))
