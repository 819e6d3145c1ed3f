"""Memory that is used again: each page of new memory costs the system as much as filling it."""

import mmap
import weakref
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

_HUGE = 2 << 20
"""Bytes of a huge page: one page fault instead of 512."""


class Memory:
    """Pieces of a few sizes, for the threads of a process.

    A piece comes back when the last array that lies in it is gone.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._free: dict[int, list[mmap.mmap]] = defaultdict(list)

    def empty(self, size: int) -> NDArray[np.uint8]:
        """Give bytes with any content, of nobody else, that begin a page."""
        free = self._free[size]
        try:
            piece = free.pop()
        except IndexError:
            piece = _mapped(size)
        array = np.frombuffer(piece, np.uint8, size)
        weakref.finalize(array, free.append, piece).atexit = False
        return array


def new(size: int) -> NDArray[np.uint8]:
    """Give bytes with any content, as NumPy does."""
    return np.empty(size, np.uint8)


def _mapped(size: int) -> mmap.mmap:
    whole = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    piece = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        piece.madvise(mmap.MADV_HUGEPAGE)
    return piece
