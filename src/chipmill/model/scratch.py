"""Arrays that a thread uses again and again: fresh memory costs a page fault every 4 kB."""

import math
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Scratch(local):
    """Room for intermediate results, of each thread its own; it goes with the last who knows it."""

    def __init__(self) -> None:
        """Begin with nothing, in each thread."""
        self._rooms: dict[str, NDArray[np.uint8]] = {}
        self._made: dict[tuple[str, tuple[int, ...], np.dtype[Any]], NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Give an array of a name, in which is what was left there under the same name."""
        asked = name, shape, dtype
        found = self._made.get(asked)
        if found is None:
            size = math.prod(shape) * dtype.itemsize
            if name not in self._rooms or len(self._rooms[name]) < size:
                self._rooms[name] = np.empty(size, np.uint8)
                self._made = {one: array for one, array in self._made.items() if one[0] != name}
            room = self._rooms[name][:size]
            found = self._made[asked] = room.view(dtype).reshape(shape)
        return found
