"""Tell the nodata pixels of a file, and count pixels chip by chip, block after block of it."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.model.grid import ChipGrid, Grid, ratio, spans
from chipmill.model.scratch import Scratch

Pixels = NDArray[Any]
Masks = Callable[[tuple[Pixels, ...], NDArray[np.bool_]], None]
"""Writes masks of the pixels of some bands, each of shape (y, x), into an array (masks, y, x)."""

_PIECE = 128
"""Rows that are added up at once: the sum of a column stays in a byte."""
_SIDE = 4
"""Rows of masks that count as one long row at first: fewer and longer additions."""
_JUDGED = 2**18
"""Pixels that are judged at once: many, as each time costs, and yet few enough for a cache."""
_REMEMBERED = 64
"""Rows and columns of blocks of which it is remembered how chips cut them."""

_BOOL, _BYTE = np.dtype(np.bool_), np.dtype(np.uint8)
_ADD, _ADD_AT = np.add.reduce, np.add.reduceat


def nodata_mask(values: NDArray[np.generic], nodata: float | None) -> NDArray[np.bool_]:
    """Tell the nodata pixels of an asset.

    Args:
        values: Shape (bands, y, x).
        nodata: Digital number that means nodata; None: there is none. NaN always means it.

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
    own = _own(nodata, dtype)
    if dtype.kind == "f":
        test = np.isnan if own is None else partial(_is_nan_or, own)
    elif own is None:
        return None
    else:
        test = partial(np.equal, own)
    return lambda bands, out: _all(test, bands, out[0])


def _own(nodata: float | None, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Give a number in a file's own type; None: no pixel equals it.

    A comparison with a float would turn every pixel into one.
    """
    if nodata is None or np.isnan(nodata):
        return None
    with np.errstate(invalid="ignore", over="ignore"):  # 1e20 in a file of bytes
        own = np.array(nodata).astype(dtype)
    other = own != nodata if dtype.kind in "iu" else np.isinf(own) != np.isinf(nodata)
    return None if other else own


def _is_nan_or(own: NDArray[Any], values: Pixels, out: NDArray[np.bool_] | None = None) -> Pixels:
    found = np.isnan(values, out=out)
    return np.logical_or(found, np.equal(values, own), out=found)


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
    ys: NDArray[np.int64]
    """Rows at which a row of chips begins or ends, each once."""
    xs: NDArray[np.int64]
    """The same of the columns."""

    @classmethod
    def of(cls, chips: ChipGrid, *, grid: Grid, where: str) -> "Windows":
        """Lay the chips of a scene over the grid of one of its files, which `where` names.

        Raises:
            SceneError: The file does not align with the grid of the chips.
        """
        scale, size = ratio(grid, fine=chips.grid, where=where), chips.size
        y, x = scale.inset
        down = spans(chips.rows, size=size, ratio=scale.y, limit=grid.height, inset=y)
        across = spans(chips.cols, size=size, ratio=scale.x, limit=grid.width, inset=x)
        return cls(down=down, across=across, ys=np.unique(down), xs=np.unique(across))

    @property
    def pixels(self) -> NDArray[np.int64]:
        """How many pixels each chip touches: shape (rows, cols)."""
        return np.diff(self.down, axis=1) * np.diff(self.across, axis=1).T


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Some rows or columns of a file, cut at the edges of cells."""

    cells: slice
    """Which they are."""
    starts: NDArray[np.int64]
    """Where each begins, counted from the beginning of the stretch."""
    sizes: NDArray[np.int64]
    """Rows or columns of each."""
    end: int
    """Where the last one ends."""

    @classmethod
    def of(cls, edges: list[int], start: int, end: int) -> "_Stretch":
        """Cut from `start` to before `end`.

        What lies beyond the last edge is cut off.
        """
        own = _cut(edges, start, end)
        first = bisect_right(edges, start) - 1
        cuts = np.array(own)
        return cls(
            cells=slice(first, first + len(own) - 1),
            starts=cuts[:-1],
            sizes=np.diff(cuts),
            end=own[-1],
        )


def _cut(edges: list[int], start: int, end: int) -> list[int]:
    """Give the edges from `start` to `end`, which are two themselves, counted from `start`."""
    end = min(end, edges[-1])
    between = edges[bisect_right(edges, start) : bisect_left(edges, end)]
    return [edge - start for edge in (start, *between, end)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """How the rows of a stretch are gone through."""

    runs: list[tuple[int, int]]
    """Cells are cut into pieces of some rows at most, of which several of one height follow each
    other: height and number of each such run."""
    pieces: int
    """How many pieces there are."""
    cells: NDArray[np.int64] | None
    """Number of the first piece of each cell; None: each is one piece."""

    @classmethod
    def of(cls, edges: list[int], start: int, end: int, most: int) -> "_Runs":
        """Cut the rows from `start` to before `end`, in runs of `most` rows at most."""
        runs = list[tuple[int, int]]()
        cells = list[int]()
        done = 0
        for begin, stop in pairwise(_cut(edges, start, end)):
            cells.append(done)
            for row in range(begin, stop, _PIECE):
                height, (last, count) = min(_PIECE, stop - row), runs[-1] if runs else (0, 0)
                if height == last and (count + 1) * height <= most:
                    runs[-1] = height, count + 1
                else:
                    runs.append((height, 1))
                done += 1
        return cls(runs=runs, pieces=done, cells=None if done == len(cells) else np.array(cells))


class Tally:
    """Counts pixels of one file, block by block, in any order and from several threads.

    The edges of all chips cut the file into cells, which belong to no, one or several chips; a
    pixel is counted once, in its cell, and chips are sums of cells. So chips may overlap, as they
    do where a coarse pixel lies under two of them, and blocks may straddle them.
    """

    def __init__(self, windows: Windows, *, masks: int, scratch: Scratch | None = None) -> None:
        """Begin at nothing; `masks` is how many kinds of pixels are counted."""
        self._windows = windows
        self._cells = np.zeros((masks, len(windows.ys) - 1, len(windows.xs) - 1), np.int64)
        self._scratch = scratch or Scratch()
        remember, ys, xs = lru_cache(_REMEMBERED), windows.ys.tolist(), windows.xs.tolist()
        self._down = remember(partial(_Stretch.of, ys))
        self._across = remember(partial(_Stretch.of, xs))
        self._runs = remember(partial(_Runs.of, ys))
        self._lock = Lock()

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of the file that belong to chips; what lies beyond need not be read."""
        return int(self._windows.ys[-1]), int(self._windows.xs[-1])

    def add(self, bands: tuple[Pixels, ...], masks: Masks, *, top: int, left: int) -> None:
        """Count the pixels of one block.

        Args:
            bands: Its pixels, each of shape (y, x).
            masks: Tells which of them count, in as many masks as there are kinds.
            top: Row of the file at which the block begins.
            left: Column of the file at which it begins.
        """
        height, width = bands[0].shape
        down, across = self._cut(height, width, top=top, left=left)
        cut = self._runs(top, top + height, _JUDGED // width)
        kinds, used = len(self._cells), across.end
        columns = self._scratch.array("columns", (kinds, cut.pieces, used), _BYTE)
        row = piece = 0
        for rows, count in cut.runs:
            found = self._scratch.array("masks", (kinds, count * rows, used), _BOOL)
            masks(tuple(band[row : row + count * rows, :used] for band in bands), found)
            self._add_up(found, rows, columns[:, piece : piece + count])
            row, piece = row + count * rows, piece + count
        cells = _ADD_AT(columns, across.starts, axis=2, dtype=np.int64)
        self._put(down, across, cells if cut.cells is None else _ADD_AT(cells, cut.cells, axis=1))

    def _add_up(self, found: NDArray[np.bool_], rows: int, out: NDArray[np.uint8]) -> None:
        """Add up the columns of masks (kinds, y, x), each `rows` for themselves.

        NumPy adds long rows faster: some that follow each other count as one at first.
        """
        kinds, count, used = out.shape
        side = _SIDE if rows % _SIDE == 0 else 1
        wide = self._scratch.array("wide", (kinds, count, 1, side * used), _BYTE)
        split = found.view(_BYTE).reshape(kinds, count, rows // side, side * used)
        _ADD(split, axis=2, keepdims=True, out=wide)
        _ADD(wide.reshape(kinds, count, side, used), axis=2, out=out)

    def add_whole(self, shape: tuple[int, int], *, top: int, left: int) -> None:
        """Count all pixels of a block (y, x), in each kind, without looking at them."""
        down, across = self._cut(*shape, top=top, left=left)
        self._put(down, across, np.multiply.outer(down.sizes, across.sizes))

    def chips(self) -> NDArray[np.int64]:
        """Give the counts so far: shape (masks, rows, cols)."""
        windows = self._windows
        total = np.zeros(np.add(self._cells.shape, (0, 1, 1)), np.int64)
        total[:, 1:, 1:] = self._cells.cumsum(axis=1).cumsum(axis=2)
        y, x = (
            np.searchsorted(edges, spans)
            for edges, spans in ((windows.ys, windows.down), (windows.xs, windows.across))
        )
        rows = total[:, y[:, 1]] - total[:, y[:, 0]]
        return rows[:, :, x[:, 1]] - rows[:, :, x[:, 0]]

    def share(self, counts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Turn counts into shares of the pixels of each chip, both of shape (rows, cols)."""
        return (counts / self._windows.pixels).astype(np.float32)

    def _cut(self, height: int, width: int, *, top: int, left: int) -> tuple[_Stretch, _Stretch]:
        return self._down(top, top + height), self._across(left, left + width)

    def _put(self, down: _Stretch, across: _Stretch, cells: NDArray[np.int64]) -> None:
        with self._lock:
            self._cells[:, down.cells, across.cells] += cells
