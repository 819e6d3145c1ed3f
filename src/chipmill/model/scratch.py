"""Arrays that a thread uses again and again: fresh memory costs a page fault every 4 kB."""

import math
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.model.memory import HUGE, Memory

_LINE = 64
"""Bytes of a line of a processor's cache, at which rooms begin."""
_memory = Memory(keep=8)
"""What the scenes of a process use one after the other."""


class Scratch(local):
    """Room for intermediate results, of each thread its own; it goes with the last who knows it."""

    def __init__(self) -> None:
        """Begin with nothing, in each thread."""
        self._rooms: dict[str, NDArray[np.uint8]] = {}
        self._made: dict[tuple[str, tuple[int, ...], np.dtype[Any]], NDArray[Any]] = {}
        self._free = np.empty(0, np.uint8)

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Give an array of a name, in which is what was left there under the same name."""
        asked = name, shape, dtype
        found = self._made.get(asked)
        if found is None:
            size = math.prod(shape) * dtype.itemsize
            if name not in self._rooms or len(self._rooms[name]) < size:
                self._rooms[name] = self._cut(1 << (size - 1).bit_length() if size else 0)
                self._made = {one: array for one, array in self._made.items() if one[0] != name}
            room = self._rooms[name][:size]
            found = self._made[asked] = room.view(dtype).reshape(shape)
        return found

    def _cut(self, size: int) -> NDArray[np.uint8]:
        """Take memory from a huge page that several rooms share."""
        size = -(-size // _LINE) * _LINE
        if len(self._free) < size:
            self._free = _memory.empty(-(-size // HUGE) * HUGE)
        found, self._free = self._free[:size], self._free[size:]
        return found
