"""A curve through all places on earth: what is near on it is near on earth."""

import numpy as np
from numpy.typing import NDArray

BITS = 16
"""Of each axis: a cell is 600 m high at most, far smaller than a scene."""


def along_curve(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give the place of points on a Hilbert curve over longitude and latitude.

    The bits of both axes are taken from the highest; in each quarter the curve is turned so that
    it goes on where it left the one before (D. Hilbert, Mathematische Annalen 38, 1891).

    Args:
        lon: Degrees, -180 to 180.
        lat: Degrees, -90 to 90.

    Returns:
        Shape of the arguments: 0 to 4 ** BITS - 1.
    """
    x, y = _cells((lon + 180) / 360), _cells((lat + 90) / 180)
    place = np.zeros_like(x)
    for bit in range(BITS - 1, -1, -1):
        right, upper = x >> bit & 1, y >> bit & 1
        place = place << 2 | (3 * right ^ upper)
        # In both lower quarters the axes change places; in the right one they also turn around.
        turned = np.where((right == 1) & (upper == 0), (1 << bit) - 1, 0)
        x, y = x ^ turned, y ^ turned
        x, y = np.where(upper == 0, y, x), np.where(upper == 0, x, y)
    return place


def _cells(share: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.clip(share * 2**BITS, 0, 2**BITS - 1).astype(np.int64)
