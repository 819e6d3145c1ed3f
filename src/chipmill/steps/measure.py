"""Measure pixels: those of a scene's usable chips, and those of a whole file for its item."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.formats.pack import PackHeader, band_view
from chipmill.formats.statistics import BandSums, SceneSums
from chipmill.io.raster import Raster, open_raster
from chipmill.io.store import Store
from chipmill.model.archived import ArchivedBand, ArchivedScene
from chipmill.model.count import nodata_mask
from chipmill.model.grid import ChipGrid
from chipmill.model.moments import Moments, decibels, measurable, moments
from chipmill.steps.cut import cut_chips, pack_header

ROWS_AT_ONCE = 512
"""Pixel rows of a file in memory: the edge of most blocks, so that few are decoded twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found in some pixels of a band."""

    moments: Moments = field(default_factory=Moments)
    nodata: int = 0
    not_positive: int = 0
    """Pixels with data that have no logarithm; only counted where decibels are measured."""

    def __add__(self, other: "Measured") -> "Measured":
        """Merge with what was found in other pixels."""
        return Measured(
            moments=self.moments + other.moments,
            nodata=self.nodata + other.nodata,
            not_positive=self.not_positive + other.not_positive,
        )


def measure_chips(
    scene: ArchivedScene,
    archive: Store,
    *,
    chip_size: int,
    row: NDArray[np.uint16],
    col: NDArray[np.uint16],
    in_decibels: bool,
) -> SceneSums:
    """Measure the named chips of a scene, as packs hold them; memory holds one row of chips.

    Args:
        scene: A scene of the archive.
        archive: Where its files are.
        chip_size: Edge of a chip in pixels of the finest grid.
        row: Rows of the chips, shape (chips,), in order.
        col: Columns of the chips, shape (chips,).
        in_decibels: Measure 10 log10 of the physical values instead of the digital numbers.

    Raises:
        SceneError: A file is damaged, or the files do not align.
    """
    chips = ChipGrid(grid=scene.finest.file.grid, size=chip_size)
    header = pack_header(scene, chips)
    found = [Measured() for _ in scene.bands]
    for _, records in cut_chips(scene, header, archive=archive, rows=row, cols=col):
        empty = _empty_by_file(scene, header, records)
        for number, (band, packed) in enumerate(zip(scene.bands, header.bands, strict=True)):
            pixels = band_view(records, packed)
            found[number] += _measure(pixels, ~empty[band.file.key], band if in_decibels else None)
    return SceneSums(
        collection=scene.ref.collection,
        scene=scene.ref.item,
        chips=len(row),
        decibels=in_decibels,
        bands=tuple(
            BandSums.of(
                each.moments,
                band=band.name,
                scale=band.scale,
                offset=band.offset,
                nodata=each.nodata,
                not_positive=each.not_positive,
            )
            for band, each in zip(scene.bands, found, strict=True)
        ),
    )


def measure_file(
    archive: Store, key: str, *, bands: Sequence[int], nodata: float | None, alpha: bool
) -> dict[int, dict[str, float]]:
    """Measure all valid pixels of a file, in one pass; memory holds a strip of it.

    Args:
        archive: Where the file is.
        key: Its key.
        bands: Positions of its data bands, counted from 1.
        nodata: Digital number that means nodata.
        alpha: Whether an alpha band masks the others.

    Returns:
        By position the band's STAC `statistics`, in digital numbers.

    Raises:
        SceneError: A block is damaged.
    """
    found = dict.fromkeys(bands, Measured())
    with open_raster(archive, key) as raster:
        height, mask = raster.header.grid.height, raster.header.alpha if alpha else None
        mask = None if mask in bands else mask
        for first in range(0, height, ROWS_AT_ONCE):
            last = min(first + ROWS_AT_ONCE, height)
            pixels = raster.rows(first, last, bands=tuple(bands))
            valid = ~nodata_mask(pixels, nodata) & _unmasked(raster, first, last, mask)
            for number, band in enumerate(bands):
                found[band] += _measure(pixels[number], valid)
    return {band: _statistics(each) for band, each in found.items()}


def _empty_by_file(
    scene: ArchivedScene, header: PackHeader, records: NDArray[np.uint8]
) -> dict[str, NDArray[np.bool_]]:
    """Tell nodata as the index does: where all bands of a file are; shape (chips, y, x)."""
    views: dict[str, list[NDArray[Any]]] = {}
    for band, packed in zip(scene.bands, header.bands, strict=True):
        views.setdefault(band.file.key, []).append(band_view(records, packed))
    files = {band.file.key: band.file for band in scene.bands}
    return {
        key: nodata_mask(
            np.stack(bands).reshape(len(bands), -1, bands[0].shape[-1]), file.nodata
        ).reshape(bands[0].shape)
        for key, file in files.items()
        if (bands := views[key])
    }


def _measure(
    pixels: NDArray[Any], valid: NDArray[np.bool_], band: ArchivedBand | None = None
) -> Measured:
    """Measure the valid pixels; where a band is given, the decibels of its physical values."""
    valid = valid & measurable(pixels)
    values = pixels.reshape(-1) if valid.all() else pixels[valid]
    nodata = pixels.size - len(values)
    if band is None:
        return Measured(moments=moments(values), nodata=nodata)
    logarithms = decibels(values.astype(np.float64) * band.scale + band.offset)
    return Measured(
        moments=moments(logarithms), nodata=nodata, not_positive=len(values) - len(logarithms)
    )


def _unmasked(raster: Raster, first: int, last: int, alpha: int | None) -> NDArray[np.bool_]:
    """Tell the pixels of whole rows that no alpha band and no mask of the file hides."""
    valid = np.ones((last - first, raster.header.grid.width), np.bool_)
    if alpha is not None:
        valid &= raster.rows(first, last, bands=(alpha,))[0] != 0
    if raster.header.masked:
        valid &= raster.valid(first, 0, last - first, raster.header.grid.width) != 0
    return valid


def _statistics(found: Measured) -> dict[str, float]:
    """Say it as STAC 1.1 does: common metadata, statistics object."""
    count = found.moments.count
    said: dict[str, float] = {
        "count": count,
        "valid_percent": 100 * count / (count + found.nodata),
    }
    mean, std = found.moments.mean, found.moments.std
    if mean is not None and std is not None:
        said |= {"minimum": found.moments.minimum, "maximum": found.moments.maximum}
        said |= {"mean": mean, "stddev": std}
    return said
