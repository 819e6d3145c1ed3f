"""What the header of a file says, completed by the item and the sensor's table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from chipmill.formats.copied import FileFacts
from chipmill.model.choice import Choice, FileBands
from chipmill.model.extent import extent
from chipmill.model.footprint import pixel_metres
from chipmill.model.grid import Grid, ratio
from chipmill.model.scene import Asset
from chipmill.model.sensor import Sensor

if TYPE_CHECKING:
    from chipmill.io.raster import Header


def aligned(choice: Choice, files: Mapping[str, FileFacts], *, where: str) -> Grid:
    """Give the finest grid of the data bands.

    Raises:
        SceneError: A file does not align with it; `where` names the scene.
    """
    data = (files[s.asset.key] for s in choice.bands if s.asset.key in files)
    finest = min((file.grid for file in data), key=lambda grid: max(grid.pixel))
    for key, file in files.items():
        ratio(file.grid, fine=finest, where=f"{key} and the finest band of {where}")
    return finest


def facts_of(header: "Header", asset: Asset, kind: Sensor, *, is_quality: bool) -> FileFacts:
    """Take what a file says; what it does not, the item or the sensor's table may.

    The table's nodata value is of data files; what a quality band has for nodata is in its rule.
    """
    has_alpha = header.alpha is not None
    stated = next((band.nodata for band in asset.bands if band.nodata is not None), None)
    tabled = kind.nodata_of(header.nodata, masked=header.masked, alpha=has_alpha)
    said = (header.nodata, stated, None if is_quality else tabled)
    _, south, _, north = extent(header.grid)
    return FileFacts(
        grid=header.grid,
        bands=FileBands(header.bands, header.alpha),
        dtype=header.dtype,
        header_nodata=header.nodata,
        nodata=next((n for n in said if n is not None and _fits(n, header.dtype)), None),
        resolution=pixel_metres(header.grid, latitude=(south + north) / 2),
    )


def _fits(value: float, dtype: str) -> bool:
    """Tell whether a pixel of this type can have a value."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return True
    limits = np.iinfo(kind)
    return bool(limits.min <= value <= limits.max and value == int(value))
