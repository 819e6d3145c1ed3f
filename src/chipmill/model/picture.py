"""Pixels as a person would look at them: which bands, how bright, what is empty."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DARKEST, BRIGHTEST = 2, 98
"""Percentiles of the shown pixels that become black and white."""
REACH = 4
EMPTY = (200, 200, 200)
"""Colour of pixels without data."""
_FLOOR = 1e-6
"""Power below which a logarithm says nothing: -60 dB, far under the noise of any radar."""
_RGB = 3


def three_bands(names: Sequence[str], common: Sequence[str | None], *, radar: bool) -> list[int]:
    """Choose which bands are shown as red, green and blue, by position.

    Args:
        names: Of the bands, in their order.
        common: STAC's common names of them.
        radar: Whether they are polarisations.

    Returns:
        True colour where there is one. Else of three bands and more the last three, the last one as
        red: long waves. Of radar two, whose ratio becomes blue; of anything else the first: grey.
    """
    wanted = ("red", "green", "blue")
    for listed in (common, names):
        if all(colour in listed for colour in wanted):
            return [listed.index(colour) for colour in wanted]
    count = len(names)
    if count >= _RGB and not radar:
        return [count - 1, count - 2, count - 3]
    return [0, 1] if radar and count > 1 else [0]


def as_shown(values: NDArray[np.float64], *, radar: bool) -> NDArray[np.float64]:
    """Turn physical values into the three layers of a picture that is not stretched yet.

    Args:
        values: Shape (chips, y, x, bands) of one, two or three bands; NaN where there is no data.
        radar: Whether they are linear power: shown in decibels.

    Returns:
        Shape (chips, y, x, 3).
    """
    if radar:
        values = 10 * np.log10(np.maximum(values, _FLOOR))
    if values.shape[-1] == _RGB:
        return values
    if values.shape[-1] == 1:
        return np.repeat(values, _RGB, axis=-1)
    difference = values[..., :1] - values[..., 1:]
    return np.concatenate([values, difference], axis=-1)


def limits(layers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find what becomes black and white in the chips of a scene.

    White is at most `REACH` times as far from black as the median is: a few clouds must not make
    the land black.

    Args:
        layers: Shape (chips, y, x, 3); NaN where there is no data.

    Returns:
        Shape (2, 3).
    """
    pixels = layers.reshape(-1, _RGB)
    known = pixels[np.isfinite(pixels).all(axis=1)]
    if len(known) == 0:
        return np.array([[0.0] * _RGB, [1.0] * _RGB])
    ends: NDArray[np.float64] = np.percentile(known, [DARKEST, 50, BRIGHTEST], axis=0)
    black, middle, white = ends[0:1], ends[1:2], ends[2:3]
    reach = black + REACH * (middle - black)
    return np.concatenate([black, np.where(middle > black, np.minimum(white, reach), white)])


def stretched(layers: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Stretch layers between two ends each: shape (chips, y, x, 3), 0 to 255, grey where empty."""
    width = np.maximum(ends[1] - ends[0], np.finfo(np.float64).tiny)
    empty = np.asarray(~np.isfinite(layers).all(axis=-1))
    share = (np.where(empty[..., None], ends[0], layers) - ends[0]) / width
    picture = (np.clip(share, 0, 1) * 255).astype(np.uint8)
    picture[empty] = EMPTY
    return picture


def known_values(
    pixels: NDArray[Any], *, nodata: float | None, scale: float, offset: float
) -> NDArray[np.float64]:
    """Give physical values, NaN where there is no data; in the shape of the pixels."""
    values = pixels.astype(np.float64)
    empty = ~np.isfinite(values)
    if nodata is not None:
        empty |= values == nodata
    values = values * scale + offset
    values[empty] = np.nan
    return values
