# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# rasterio ships no types; what leaves this module is typed.
"""Read GeoTIFFs of the archive, and turn what providers deliver into such GeoTIFFs.

Files come from outside. In the archive only the GeoTIFF driver opens them, nothing beside them is
read, and the header is checked before the first pixel.
"""

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # what its copy raises, for which it has no public name
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import Env
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from chipmill.errors import SceneError
from chipmill.io.remote import open_file
from chipmill.io.store import Store
from chipmill.model.grid import MAX_BLOCK, MAX_PIXELS, Affine, Grid

_ALONE: Mapping[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 2**30,
}
"""Open a file and nothing beside it. The cache (bytes, of the whole process) holds a row of blocks
of ten bands of 10,980 px for four scenes at once: chips are smaller than blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of itself; it wins over what the item says."""

    grid: Grid
    bands: int
    dtype: str
    nodata: float | None
    """Digital number, NaN included; None: the header names none."""
    alpha: int | None
    """Position of the band that the file calls alpha, counted from 1."""
    masked: bool
    """Whether the file has a mask of its own: a TIFF directory that says which pixels are data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandLabel:
    """What a file says of one of its bands."""

    name: str | None
    """Its description, else its colour."""
    colour: str
    """GDAL's colour interpretation, such as `red`, `alpha` or `undefined`."""
    scale: float
    offset: float
    wavelength: float | None
    fwhm: float | None
    """Both in micrometres."""


class Raster:
    """An open file of the archive."""

    def __init__(self, dataset: DatasetReader, *, where: str) -> None:
        """Wrap an open dataset; `where` names it in errors."""
        self._dataset = dataset
        self._where = where
        self.header = _header(dataset, where)

    def rows(self, first: int, last: int, *, bands: tuple[int, ...]) -> NDArray[Any]:
        """Read whole pixel rows.

        Returns:
            Shape (bands, last - first, width), in the file's dtype.

        Raises:
            SceneError: A block is damaged.
        """
        return self.window(first, 0, last - first, self.header.grid.width, bands=bands)

    def labels(self) -> tuple[BandLabel, ...]:
        """Read what the file says of each band."""
        return tuple(_label(self._dataset, index) for index in self._dataset.indexes)

    def tag(self, name: str) -> str | None:
        """Read one of the file's own tags, such as `TIFFTAG_DATETIME`."""
        return self._dataset.tags().get(name)

    def window(
        self, top: int, left: int, height: int, width: int, *, bands: tuple[int, ...]
    ) -> NDArray[Any]:
        """Read a part of some bands: shape (bands, height, width), in the file's dtype.

        Raises:
            SceneError: A block is damaged.
        """
        window = Window(left, top, width, height)  # pyright: ignore[reportCallIssue]
        with self._readable(top, top + height):
            return self._dataset.read(list(bands), window=window)

    def valid(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Read a part of the file's own mask: shape (height, width), 0 is nodata.

        Raises:
            SceneError: A block is damaged.
        """
        window = Window(left, top, width, height)  # pyright: ignore[reportCallIssue]
        with self._readable(top, top + height):
            return self._dataset.read_masks(1, window=window)

    @contextmanager
    def _readable(self, first: int, last: int) -> Generator[None]:
        try:
            yield
        except RasterioIOError as err:
            raise SceneError(f"{self._where} is damaged in rows {first} to {last} ({err})") from err


@contextmanager
def open_raster(store: Store, key: str) -> Generator[Raster]:
    """Open a GeoTIFF of the archive.

    Raises:
        SceneError: It is no GeoTIFF, has no place on earth, or declares more than is sane.
        MissingError: There is nothing at this key.
    """
    path = store.local_path(key)
    where = store.href(key)
    with Env(**_ALONE), _opened(path or store.reader(key), where, "GTiff") as dataset:
        yield Raster(dataset, where=where)


def read_header(store: Store, key: str) -> Header:
    """Read the header of a GeoTIFF, and of a remote one no more than that.

    Raises:
        SceneError: It is no GeoTIFF, has no place on earth, or declares more than is sane.
        MissingError: There is nothing at this key.
    """
    where = store.href(key)
    with (
        open_file(store, key) as file,
        Env(**_ALONE),
        _opened(store.local_path(key) or file, where, "GTiff") as dataset,
    ):
        return _header(dataset, where)


@contextmanager
def _opened(file: Any, where: str, driver: str | None) -> Generator[DatasetReader]:  # noqa: ANN401
    try:
        dataset: DatasetReader = rasterio.open(file, driver=driver)
    except RasterioError as err:
        raise SceneError(f"{where} is not a raster that can be used ({err})") from err
    with dataset:
        yield dataset


def _header(dataset: DatasetReader, where: str) -> Header:
    if dataset.crs is None or dataset.transform.is_identity:
        raise SceneError(f"{where} has no georeference; it cannot be placed on earth")
    blocks = dataset.block_shapes[0]
    if dataset.width * dataset.height > MAX_PIXELS or blocks[0] * blocks[1] > MAX_BLOCK:
        raise SceneError(
            f"{where} declares {dataset.height} x {dataset.width} px in blocks of {blocks[0]} x "
            f"{blocks[1]}, more than chipmill opens"
        )
    if len(set(dataset.dtypes)) > 1 or np.dtype(dataset.dtypes[0]).kind not in "iuf":
        raise SceneError(f"{where} has the data types {dataset.dtypes}; one of numbers is needed")
    code = dataset.crs.to_epsg()
    return Header(
        grid=Grid(
            height=dataset.height,
            width=dataset.width,
            transform=_affine(dataset),
            crs=f"EPSG:{code}" if code else dataset.crs.to_wkt(version="WKT2_2019"),
        ),
        bands=dataset.count,
        dtype=dataset.dtypes[0],
        nodata=None if dataset.nodata is None else float(dataset.nodata),
        alpha=_alpha(dataset),
        masked=dataset.mask_flag_enums[0] == [MaskFlags.per_dataset],
    )


_COLOURS = {"red", "green", "blue", "nir", "alpha"}
"""Colours that are names of bands."""


def _label(dataset: DatasetReader, index: int) -> BandLabel:
    colour = dataset.colorinterp[index - 1].name
    imagery = dataset.tags(index, ns="IMAGERY")
    return BandLabel(
        name=dataset.descriptions[index - 1] or (colour if colour in _COLOURS else None),
        colour=colour,
        scale=float(dataset.scales[index - 1]),
        offset=float(dataset.offsets[index - 1]),
        wavelength=_positive(imagery.get("CENTRAL_WAVELENGTH_UM")),
        fwhm=_positive(imagery.get("FWHM_UM")),
    )


def _positive(text: str | None) -> float | None:
    """Read a positive number; what is none says nothing."""
    with suppress(ValueError):
        number = float(text or 0)
        return number if 0 < number < math.inf else None
    return None


def _alpha(dataset: DatasetReader) -> int | None:
    kinds = dataset.colorinterp
    return kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else None


def _affine(dataset: DatasetReader) -> Affine:
    a, b, c, d, e, f = (float(value) for value in list(dataset.transform)[:6])
    return a, b, c, d, e, f


def is_geotiff(head: bytes) -> bool:
    """Tell a TIFF or BigTIFF by its first four bytes."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_jpeg2000(head: bytes) -> bool:
    """Tell a JP2 file or a bare JPEG 2000 code stream by its first twelve bytes."""
    return head[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or head[:4] == b"\xff\x4f\xff\x51"


def transcode(source: Path, target: Path) -> None:
    """Write a JPEG 2000 file anew as a tiled GeoTIFF, losslessly.

    Reads the `.aux.xml` beside the source where there is one: some files have their georeference
    there.

    Raises:
        SceneError: The file cannot be decoded.
    """
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "DEFLATE"}
    try:
        with Env(), _opened(source, str(source), "JP2OpenJPEG") as dataset:
            # Sentinel-2 comes as 15 bits in 16, which GDAL would keep and no predictor takes.
            bits = 8 * np.dtype(dataset.dtypes[0]).itemsize
            copy_raster(dataset, target, driver="GTiff", predictor=2, nbits=bits, **options)
    except (RasterioError, CPLE_BaseError) as err:
        raise SceneError(f"{source.name} cannot be decoded as JPEG 2000 ({err})") from err
