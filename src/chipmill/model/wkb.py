"""Geometries as well-known binary (OGC 06-103r4, 8), many at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Wkb:
    """Geometries one behind the other, as columns of Arrow have them."""

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]
    """Where the first begins, and where each ends: shape (geometries + 1,)."""

    @classmethod
    def of(cls, geometries: Sequence[bytes]) -> Self:
        """Put geometries one behind the other."""
        data = np.frombuffer(b"".join(geometries), np.uint8)
        return cls(data, np.cumsum([0, *map(len, geometries)]))
