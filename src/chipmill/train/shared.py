"""Minibatches in memory that a loader's worker shares with the training process, and uses again.

A worker writes pixels straight into the memory from which the training process reads them: nothing
is copied on the way, and no fresh pages are asked for. The memory has no name and no limit of its
own (`memfd_create`), so it needs no room in /dev/shm and is gone with the processes.
"""

import mmap
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.train.memory import byte_size, shaped

_FREE, _USED = 0, 1
_HEAD = mmap.PAGESIZE
"""Bytes before the pixels; the first of them says whether somebody uses the memory."""


def can_share() -> bool:
    """Say whether this system has memory without a name."""
    return hasattr(os, "memfd_create")


class SharedMemory:
    """Memory of a worker process for the minibatches that it gives to the training process."""

    def __init__(self, *, keep: int = 8) -> None:
        """Keep as many pieces as `keep`; others are given up when their batch is gone."""
        self._keep = keep
        self._pieces: list[_Piece] = []
        self._lock = threading.Lock()

    def empty(self, shape: Sequence[int], dtype: "np.dtype[np.generic]") -> NDArray[Any]:
        """Give an array in a piece that neither process uses any more, or in a new one."""
        piece = self._taken(byte_size(shape, dtype))
        array = shaped(memoryview(piece.memory)[_HEAD:], shape, dtype)
        weakref.finalize(array.base, piece.drop)
        return array

    def _taken(self, size: int) -> "_Piece":
        with self._lock:
            free = [piece for piece in self._pieces if piece.memory[0] == _FREE]
            fitting = [piece for piece in free if piece.size >= size]
            if fitting:
                piece = min(fitting, key=lambda one: one.size)
            else:
                if free:
                    self._pieces.remove(free[0])  # too small
                piece = _Piece(size)
                if len(self._pieces) < self._keep:
                    self._pieces.append(piece)
            piece.take()
            return piece


class _Piece:
    """A piece of shared memory, as the worker that made it sees it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.file = os.memfd_create("chipmill-batch")
        os.ftruncate(self.file, _HEAD + size)
        self.memory = mmap.mmap(self.file, _HEAD + size)
        self.address = np.frombuffer(self.memory, np.uint8).ctypes.data + _HEAD
        weakref.finalize(self, os.close, self.file)
        self._sent = False
        _PIECES[self.address] = self

    def take(self) -> None:
        self.memory[0], self._sent = _USED, False

    def drop(self) -> None:
        """Be free again, unless the other process is to say when."""
        if not self._sent:
            self.memory[0] = _FREE

    def send(self) -> Any:  # noqa: ANN401 - multiprocessing names no type
        """Hand the memory to the other process, with the say over it."""
        self._sent = True
        return DupFd(self.file)


_PIECES: "weakref.WeakValueDictionary[int, _Piece]" = weakref.WeakValueDictionary()
"""The pieces of this process by the address of their pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """An array on its way from a worker to the training process."""

    handle: Any
    """What multiprocessing sends for an open file."""
    size: int
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def array(self) -> NDArray[Any]:
        """View the memory in this process; the worker has it back when the view is gone."""
        file: int = self.handle.detach()
        try:
            memory = mmap.mmap(file, self.size)
        finally:
            os.close(file)
        view = memoryview(memory)[_HEAD + self.offset :]
        array = shaped(view, self.shape, np.dtype(self.dtype))
        weakref.finalize(array.base, memory.__setitem__, 0, _FREE)
        return array


def lend(array: NDArray[Any]) -> Lent | None:
    """Hand on an array that lies in shared memory; None where it does not, or not in one piece."""
    if not array.flags.c_contiguous:
        return None
    address: int = array.__array_interface__["data"][0]
    piece = _piece_at(address, array.nbytes)
    if piece is None:
        return None
    return Lent(
        handle=piece.send(),
        size=_HEAD + piece.size,
        offset=address - piece.address,
        shape=array.shape,
        dtype=array.dtype.str,
    )


def _piece_at(address: int, size: int) -> _Piece | None:
    """Find the piece in which some bytes lie."""
    for start, piece in list(_PIECES.items()):
        if start <= address and address + size <= start + piece.size:
            return piece
    return None
