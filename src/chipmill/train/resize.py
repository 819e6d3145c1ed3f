"""Bring a coarser band onto the finest grid: by the nearest pixel, or between four of them.

Both grids have the same outline: pixel i of n, on either axis, covers i / n to (i + 1) / n of it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.train.view import Resize


def to_finest(band: NDArray[Any], *, size: int, resize: Resize = "nearest") -> NDArray[Any]:
    """Give a band the size of the finest grid, in its own data type.

    Nearest: pixel i of the result, on either axis, is pixel floor(i * coarse / size) of the band:
    at whole ratios each pixel is repeated, and the upper left corners meet at all ratios.

    Bilinear: pixel i lies at (i + 0.5) * coarse / size - 0.5 of the band and is weighted between
    the pixels before and after it; beyond the outermost centres these are repeated. Integers are
    rounded to the nearest, halves to even.

    Args:
        band: Shape (y, x).
        size: Edge of the result in pixels.
        resize: Which of the two.

    Returns:
        Shape (size, size); the band itself where it has that shape.
    """
    if band.shape == (size, size):
        return band
    if resize == "nearest":
        rows, columns = (np.arange(size) * coarse // size for coarse in band.shape)
        return band.take(columns, axis=1).take(rows, axis=0)
    across = _across(band.astype(np.float64), size=size)
    between = _across(across.T, size=size).T
    out = np.empty((size, size), band.dtype)
    out[:] = np.rint(between) if band.dtype.kind in "iu" else between
    return out


def _across(values: NDArray[np.float64], *, size: int) -> NDArray[np.float64]:
    """Weight between neighbours along the second axis."""
    coarse = values.shape[1]
    place = np.clip((np.arange(size) + 0.5) * coarse / size - 0.5, 0, coarse - 1)
    before = np.floor(place)
    first = before.astype(np.intp)
    one, other = values[:, first], values[:, np.minimum(first + 1, coarse - 1)]
    return one + (other - one) * (place - before)
