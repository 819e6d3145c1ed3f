"""Memory that is used again: each page of new memory costs the system as much as filling it."""

import mmap
import weakref
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

HUGE = 2 << 20
"""Bytes of a huge page: one page fault instead of 512, and fewer pages to look up."""


class Memory:
    """Pieces of a few sizes, for the threads of a process.

    A piece comes back when the last array that lies in it is gone.
    """

    def __init__(self, *, keep: int | None = None) -> None:
        """Begin with nothing; of each size as many pieces as `keep` wait for their next use."""
        self._free: dict[int, list[mmap.mmap]] = defaultdict(list)
        self._keep = keep

    def empty(self, size: int) -> NDArray[np.uint8]:
        """Give bytes with any content, of nobody else, that begin a page."""
        free = self._free[size]
        try:
            piece = free.pop()
        except IndexError:
            piece = mapped(size)
        array = np.frombuffer(piece, np.uint8, size)
        weakref.finalize(array, self._give_back, free, piece).atexit = False
        return array

    def _give_back(self, free: list[mmap.mmap], piece: mmap.mmap) -> None:
        if self._keep is None or len(free) < self._keep:
            free.append(piece)


def new(size: int) -> NDArray[np.uint8]:
    """Give bytes with any content, as NumPy does."""
    return np.empty(size, np.uint8)


def mapped(size: int) -> mmap.mmap:
    """Ask the system for at least so many bytes, in huge pages where it has them."""
    whole = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    piece = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        piece.madvise(mmap.MADV_HUGEPAGE)
    return piece
