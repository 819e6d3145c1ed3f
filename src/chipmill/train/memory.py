"""Where minibatches are written: large memory that is used again, not asked for each time.

Asking the system for fresh pages costs about as much as copying the pixels into them. Memory comes
back when the last array or tensor that lies in it is gone: who keeps a batch keeps its pixels.
"""

import mmap
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from chipmill.model.memory import mapped
from chipmill.train.tensors import pinned_array


class Memory(Protocol):
    """Gives arrays for minibatches."""

    def empty(self, shape: Sequence[int], dtype: "np.dtype[np.generic]") -> NDArray[Any]:
        """Give an array with any content, of nobody else."""
        ...


class ReusedMemory:
    """Memory of this process, used again and again; safe for several threads."""

    def __init__(self, *, keep: int = 4) -> None:
        """Keep as many pieces as `keep` that nobody uses; others go back to the system."""
        self._keep = keep
        self._free: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def empty(self, shape: Sequence[int], dtype: "np.dtype[np.generic]") -> NDArray[Any]:
        """Give an array in memory that was used before, if a piece is large enough."""
        size = byte_size(shape, dtype)
        piece = self._taken(size) or mapped(size)
        array = shaped(piece, shape, dtype)
        # Arrays that are cut out of one another all hold the one that was made from the memory.
        weakref.finalize(array.base, self._give_back, piece)
        return array

    def _taken(self, size: int) -> mmap.mmap | None:
        """Take the smallest free piece that is large enough."""
        with self._lock:
            fitting = [piece for piece in self._free if len(piece) >= size]
            if not fitting:
                self._free.clear()
                return None
            found = min(fitting, key=len)
            self._free.remove(found)
            return found

    def _give_back(self, piece: mmap.mmap) -> None:
        with self._lock:
            if len(self._free) < self._keep:
                self._free.append(piece)

    def __getstate__(self) -> dict[str, int]:
        """Go to another process without the memory."""
        return {"keep": self._keep}

    def __setstate__(self, state: dict[str, int]) -> None:
        """Begin with nothing."""
        self.__init__(keep=state["keep"])


class PinnedMemory:
    """Memory from which a GPU copies while the processor goes on; torch keeps it for the next."""

    def empty(self, shape: Sequence[int], dtype: "np.dtype[np.generic]") -> NDArray[Any]:
        """Give an array in pinned memory.

        torch uses a piece again only when the copies out of it that it has begun are done.
        """
        piece = pinned_array(byte_size(shape, dtype))
        return piece.view(dtype).reshape(tuple(shape))


def byte_size(shape: Sequence[int], dtype: "np.dtype[np.generic]") -> int:
    """Count the bytes of an array."""
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def shaped(
    memory: mmap.mmap | memoryview, shape: Sequence[int], dtype: "np.dtype[np.generic]"
) -> NDArray[Any]:
    """View the beginning of a piece of memory as an array; its base is one that nobody shares."""
    count = byte_size(shape, dtype) // dtype.itemsize
    return np.frombuffer(memory, dtype, count=count).reshape(tuple(shape))
