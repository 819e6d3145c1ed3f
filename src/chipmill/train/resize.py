"""Bring a coarser band onto the finest grid: by the nearest pixel, or between four of them.

Both grids have the same outline: pixel i of n, on either axis, covers i / n to (i + 1) / n of it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.train.view import Resize

_TWICE = 2
_DOUBLE = (1, 2, 4)
"""Bytes of pixels for which there is an integer of twice the width."""


def onto_finest(bands: NDArray[Any], *, out: NDArray[Any], resize: Resize = "nearest") -> None:
    """Write bands of one shape onto the finest grid, as `to_finest` says, in the type of `out`.

    Args:
        bands: Shape (bands, y, x).
        out: Shape (bands, size, size), contiguous.
        resize: The rule.
    """
    size, (height, width) = out.shape[-1], bands.shape[1:]
    times = size // height
    if (height, width) == (size, size):
        out[...] = bands
    elif resize == "nearest" and height == width and times * height == size:
        wide = _repeated(bands.astype(out.dtype, copy=False), times)
        out.reshape(len(bands), height, times, size)[...] = wide[:, :, np.newaxis]
    else:
        for band, place in zip(bands, out, strict=True):
            place[...] = to_finest(band, size=size, resize=resize)


def _repeated(bands: NDArray[Any], times: int) -> NDArray[Any]:
    """Repeat each pixel along x."""
    size = bands.dtype.itemsize
    if times != _TWICE or size not in _DOUBLE:
        return bands.repeat(times, axis=2)
    # Two equal pixels side by side are one number of twice the width: five times as fast.
    wide = bands.view(f"u{size}").astype(f"u{2 * size}")
    wide *= wide.dtype.type(1 + (1 << 8 * size))
    return wide.view(bands.dtype)


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
