"""What of a chip a training loop gets: which bands, on which grid, in which data type."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from chipmill.errors import RequestError
from chipmill.formats.pack import PackBand
from chipmill.train.batch import Batch

Resize = Literal["nearest", "bilinear"]
Transform = Callable[[Batch], Batch]
"""Changes a batch where it is read: in a thread, or in a worker process, which must find it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How chips are given."""

    bands: tuple[str, ...] = ()
    """Names of the bands, in this order; empty: all, in the order of the pack."""
    resize: Resize = "nearest"
    """How coarser bands come onto the finest grid."""
    float32: bool = False
    """Give 32-bit floats, not the digital numbers' own type."""
    normalize: bool = False
    """Bring pixels to mean 0 and deviation 1, as 32-bit floats."""
    transform: Transform | None = None

    def chosen(self, bands: tuple[PackBand, ...], *, where: str) -> tuple[int, ...]:
        """Find the wanted bands among those of a group of packs, by their places.

        Raises:
            RequestError: One is not there; the message lists those of `where`.
        """
        names = [band.name for band in bands]
        for name in self.bands:
            if name not in names:
                raise RequestError(
                    f"{where} has no band {name!r} in this plan; its bands are {', '.join(names)}"
                )
        return tuple(names.index(name) for name in self.bands) or tuple(range(len(names)))

    def dtype(self, bands: tuple[PackBand, ...]) -> "np.dtype[np.generic]":
        """Find the smallest data type that holds the values of all bands."""
        floats = self.float32 or self.normalize
        return np.dtype("float32") if floats else np.result_type(*(b.dtype for b in bands))
