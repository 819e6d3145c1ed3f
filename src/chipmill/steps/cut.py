"""Cut the chips of a scene: one pass over each file, all bands of a chip side by side."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.formats.pack import PackBand, PackHeader, band_view, lay_out
from chipmill.io.raster import Raster, open_raster
from chipmill.io.store import Store
from chipmill.model.archived import ArchivedBand, ArchivedScene
from chipmill.model.chip_shape import band_shapes
from chipmill.model.grid import ChipGrid, Ratio, nearest, ratio


@dataclass(frozen=True, slots=True)
class _Cutter:
    """How one band is cut."""

    band: ArchivedBand
    raster: Raster
    ratio: Ratio
    edge: int
    """Pixels of a chip along each axis, as the pack holds them."""


def pack_header(scene: ArchivedScene, chips: ChipGrid) -> PackHeader:
    """Describe the chips of a scene as its pack holds them."""
    bands = [
        PackBand(
            name=band.name,
            common_name=band.common_name,
            wavelength=band.wavelength,
            fwhm=band.fwhm,
            gsd=band.gsd,
            dtype=band.file.dtype,  # pyright: ignore[reportArgumentType]  # pydantic checks it
            shape=shape,
            start=0,
            scale=band.scale,
            offset=band.offset,
            mean=band.mean,
            std=band.std,
            nodata=band.file.nodata,
        )
        for band, shape in zip(scene.bands, band_shapes(scene, chips), strict=True)
    ]
    return PackHeader(
        collection=scene.ref.collection,
        scene=scene.ref.item,
        datetime=scene.datetime,
        platform=scene.platform,
        chip_size=chips.size,
        gsd=scene.finest.gsd,
        bands=lay_out(bands),
    )


def cut_chips(
    scene: ArchivedScene,
    header: PackHeader,
    *,
    archive: Store,
    rows: NDArray[np.uint16],
    cols: NDArray[np.uint16],
) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Cut the named chips, a row of chips at a time: memory holds the pixels of one row.

    Args:
        scene: A scene of the archive.
        header: Its `pack_header`.
        archive: Where its files are.
        rows: Rows of the chips, shape (chips,), in order.
        cols: Columns of the chips, shape (chips,).

    Yields:
        Which of the chips, and their pixels: shape (chips of the row, bytes of a chip).

    Raises:
        SceneError: A file is damaged, or the files do not align.
    """
    chips = ChipGrid(grid=scene.finest.file.grid, size=header.chip_size)
    breaks = [0, *(np.flatnonzero(np.diff(rows)) + 1).tolist(), len(rows)]
    with ExitStack() as stack:
        cutters = _cutters(scene, header, chips, archive, stack)
        for first, last in pairwise(breaks):
            records = np.empty((last - first, header.chip_bytes), np.uint8)
            for cutter, band in zip(cutters, header.bands, strict=True):
                place = band_view(records, band)  # (chips, y, x)
                place[...] = _cut(cutter, chips, int(rows[first]), cols[first:last])
            yield slice(first, last), records


def _cutters(
    scene: ArchivedScene, header: PackHeader, chips: ChipGrid, archive: Store, stack: ExitStack
) -> list[_Cutter]:
    """Open each file once, and say how each band is cut from it."""
    rasters = {
        key: stack.enter_context(open_raster(archive, key))
        for key in dict.fromkeys(band.file.key for band in scene.bands)
    }
    return [
        _Cutter(
            band,
            rasters[band.file.key],
            ratio(band.file.grid, fine=chips.grid, where=f"{band.file.key} and the finest band"),
            packed.shape[0],
        )
        for band, packed in zip(scene.bands, header.bands, strict=True)
    ]


def _cut(cutter: _Cutter, chips: ChipGrid, row: int, cols: NDArray[np.uint16]) -> NDArray[Any]:
    """Cut the chips of one row from one band: shape (chips, y, x)."""
    edge, grid, bands = cutter.edge, cutter.band.file.grid, (cutter.band.index,)
    if cutter.ratio.whole and edge * cutter.ratio.whole == chips.size:
        strip = cutter.raster.rows(row * edge, (row + 1) * edge, bands=bands)[0]
        squares = strip[:, : chips.cols * edge].reshape(edge, chips.cols, edge)
        return squares.transpose(1, 0, 2)[cols]
    scale, size = cutter.ratio, chips.size
    down, right = scale.inset
    y = nearest(row, size=size, ratio=scale.y, limit=grid.height, inset=down)
    strip = cutter.raster.rows(int(y[0]), int(y[-1]) + 1, bands=bands)[0]
    across = partial(nearest, size=size, ratio=scale.x, limit=grid.width, inset=right)
    x = np.stack([across(int(col)) for col in cols])
    return strip[y - y[0]][:, x].transpose(1, 0, 2)  # x has the shape (chips, x)
