"""The layout of cubes that Clay's own data module reads.

A cube is an npz file of chips of one platform, in a folder with the platform's name: `pixels`,
float32 of shape (chips, bands, y, x), in digital numbers of the platform, and `lon_norm`,
`lat_norm`, `week_norm`, `hour_norm`, float32 of shape (chips, 2): the sine and the cosine of
longitude and latitude in radians, of the ISO week as 52nds of a year, and of the whole hour as
24ths of a day.

Read in Clay-foundation/model a5790cef (claymodel/datamodule.py: keys, folders, stacking;
configs/metadata.yaml: platforms and the order of their bands; docs/tutorials/reconstruction.ipynb:
shapes) and in Clay-foundation/stacchip 5660f1a5 (stacchip/processors/prechip.py: data types and
formulas). Nothing is normalised here: the module does that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.formats.layout import segment
from chipmill.formats.pack import PackBand, PackHeader, band_view

ARRAYS = ("lon_norm", "lat_norm", "week_norm", "hour_norm")
"""The arrays of a cube beside `pixels`, in the order of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """How Clay knows scenes of one collection."""

    name: str
    """Also the folder's."""
    bands: tuple[str, ...] = ()
    """In Clay's order; empty: those of the packs."""
    offset_free: bool = False
    """Whether an offset that is in the pixels is taken out of them, as in what Clay was trained on:
    of Sentinel-2 the collection that earth-search had harmonised."""
    decibels: bool = False
    """Whether the module itself turns pixels into decibels."""


_LANDSAT = ("red", "green", "blue", "nir08", "swir16", "swir22")
PLATFORMS: Mapping[str, Platform] = {
    "sentinel-2-l2a": Platform(
        name="sentinel-2-l2a",
        bands=(
            *("blue", "green", "red", "rededge1", "rededge2", "rededge3"),
            *("nir", "nir08", "swir16", "swir22"),
        ),
        offset_free=True,
    ),
    "landsat-c2l1": Platform(name="landsat-c2l1", bands=_LANDSAT),
    "landsat-c2l2-sr": Platform(name="landsat-c2l2-sr", bands=_LANDSAT),
    "naip": Platform(name="naip", bands=("red", "green", "blue", "nir")),
    "linz": Platform(name="linz", bands=("red", "green", "blue")),
    "sentinel-1-rtc": Platform(name="sentinel-1-rtc", bands=("vv", "vh"), decibels=True),
    "modis-09a1": Platform(name="modis", bands=tuple(f"sur_refl_b0{n}" for n in range(1, 8))),
}
"""By collection, as chipmill names it."""


def platform_of(collection: str) -> Platform:
    """Say how Clay knows a collection; one that it does not know keeps its name and bands."""
    return PLATFORMS.get(collection) or Platform(name=segment(collection))


def chosen_bands(header: PackHeader, platform: Platform) -> tuple[PackBand, ...]:
    """Find the bands of a platform in a pack, in Clay's order.

    Raises:
        RequestError: A band is missing; the message lists those that are there.
    """
    known = {band.name: band for band in header.bands}
    missing = [name for name in platform.bands if name not in known]
    if missing:
        raise RequestError(
            f"{header.collection} has no {', '.join(missing)} in this export, and Clay's platform "
            f"{platform.name} is {', '.join(platform.bands)}; there are {', '.join(known)}: ingest "
            "these scenes with all of Clay's bands, or leave the collection out by a filter"
        )
    return tuple(known[name] for name in platform.bands or known)


def chip_pixels(
    record: NDArray[np.uint8], header: PackHeader, platform: Platform
) -> NDArray[np.float32]:
    """Give one chip as Clay has it.

    Coarser bands get the finest grid by the nearest pixel.

    Args:
        record: The chip's bytes in the pack, shape (bytes,).
        header: The pack's.
        platform: How Clay knows it.

    Returns:
        Shape (bands, y, x).
    """
    size = header.chip_size
    bands = chosen_bands(header, platform)
    pixels = np.empty((len(bands), size, size), np.float32)
    for band, out in zip(bands, pixels, strict=True):
        values = band_view(record[np.newaxis], band)[0]
        rows, columns = (np.arange(size) * coarse // size for coarse in values.shape)
        out[...] = values[rows][:, columns]
        if platform.offset_free and band.offset:
            data = out != band.nodata
            out[data] += np.float32(band.offset / band.scale)
    return pixels


def place_and_time(
    *, lat: Sequence[float], lon: Sequence[float], time: Sequence[datetime]
) -> dict[str, NDArray[np.float32]]:
    """Give where and when chips were taken as Clay has it; each array has the shape (chips, 2)."""
    utc = [moment.astimezone(UTC) for moment in time]
    angles = {
        "lon_norm": [math.radians(degrees) for degrees in lon],
        "lat_norm": [math.radians(degrees) for degrees in lat],
        "week_norm": [math.tau * moment.isocalendar().week / 52 for moment in utc],
        "hour_norm": [math.tau * moment.hour / 24 for moment in utc],
    }
    return {
        name: np.array([(math.sin(a), math.cos(a)) for a in found], np.float32)
        for name, found in angles.items()
    }


def metadata_of(header: PackHeader, platform: Platform) -> dict[str, Any] | None:
    """Describe a platform as Clay's metadata.yaml does, by what a pack says.

    Returns:
        The entry; None where mean, deviation or wavelength of a band is not known, or where they
        are not of what the module makes of the pixels.
    """
    bands = chosen_bands(header, platform)
    figures = [(band.mean, band.std, band.wavelength) for band in bands]
    if any(None in each for each in figures):
        return None
    if platform.decibels != header.normalization.decibels:
        return None
    names = [band.name for band in bands]
    common = [band.common_name for band in bands]
    measured = header.normalization.source == "snapshot"
    shift = {
        band.name: band.offset / band.scale if platform.offset_free and measured else 0.0
        for band in bands
    }
    entry: dict[str, Any] = {"band_order": names}
    if {"red", "green", "blue"} <= set(common):
        entry["rgb_indices"] = [common.index(name) for name in ("red", "green", "blue")]
    entry["gsd"] = header.gsd
    entry["bands"] = {
        "mean": {band.name: float(band.mean or 0) + shift[band.name] for band in bands},
        "std": {band.name: band.std for band in bands},
        "wavelength": {band.name: band.wavelength for band in bands},
    }
    return entry
