"""Tell the nodata pixels of a file, and count pixels chip by chip."""

import numpy as np
from numpy.typing import NDArray


def nodata_mask(values: NDArray[np.generic], nodata: float | None) -> NDArray[np.bool_]:
    """Tell the nodata pixels of an asset.

    Args:
        values: Shape (bands, y, x).
        nodata: Digital number that means nodata, NaN included; None: every pixel is data.

    Returns:
        Shape (y, x): true where *all* bands are nodata, as GDAL's dataset mask has it; a single
        dark band of an aerial photograph is a dark pixel.
    """
    if nodata is None:
        return np.zeros(values.shape[1:], np.bool_)
    if np.isnan(nodata):
        return np.asarray(np.isnan(values).all(axis=0))
    # In the file's own type: a comparison with a float would first turn every pixel into a float.
    with np.errstate(invalid="ignore"):  # 1e20 in a file of bytes
        own = np.array(nodata).astype(values.dtype)
    if own != nodata:
        return np.zeros(values.shape[1:], np.bool_)
    return np.asarray(np.equal(values, own).all(axis=0))


def count_in_windows(mask: NDArray[np.bool_], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the true pixels of one row of chips.

    Args:
        mask: Shape (y, x), the pixel rows that the chips of this row touch.
        edges: Shape (chips, 2): first pixel column and the one after the last of each chip.

    Returns:
        Shape (chips,).
    """
    columns = mask.view(np.uint8).sum(axis=0, dtype=np.uint32)
    total = np.concatenate(([0], np.cumsum(columns, dtype=np.int64)))
    return total[edges[:, 1]] - total[edges[:, 0]]
