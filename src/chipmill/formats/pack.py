"""The chip pack: the usable chips of one scene in one Arrow IPC file.

One row a chip. `pixels` is a fixed-size binary: the bands one after the other, each row-major at
its own size, little-endian; so a chip is one contiguous run of bytes. What a trainer must know of
the bands is the schema's metadata under `chipmill.pack`.

A compressed pack has one record batch a chip, so that a chip by lot decodes nothing else, and the
bytes of its samples are parted: LZ4 finds nothing in 16-bit imagery as it is.
"""

from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from chipmill.errors import PackError
from chipmill.formats.checked import CheckedFile
from chipmill.formats.multihash import lacking
from chipmill.model.manner import Codec

HEADER = b"chipmill.pack"
Encoding = Literal["plain", "byte_stream_split"]
"""How a band lies in a chip: its samples as they are, or parted as Parquet's encoding of this name
does it: the first bytes of all samples, then their second bytes, and so on."""
Proof = Literal["files", "blocks"]
"""What the bytes of a scene were checked against when they were read: the hash of each whole file;
or, where little of a file was needed and only that was read, what its blocks carry themselves."""
DType = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


class PackBand(BaseModel):
    """One band as it lies in the pixels of a chip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    common_name: str | None = None
    wavelength: float | None = None
    """Centre wavelength in micrometres."""
    fwhm: float | None = None
    """Full width at half maximum in micrometres."""
    gsd: float
    """Pixel size of the file in metres."""
    dtype: DType
    shape: tuple[PositiveInt, PositiveInt]
    """Pixels of one chip in this band, (y, x)."""
    start: int
    """First byte of the band in a chip's pixels."""
    scale: float = 1.0
    offset: float = 0.0
    """Physical value = digital number x scale + offset."""
    mean: float | None = None
    std: float | None = None
    """Normalisation of the data set, in digital numbers or, of radar, in decibels."""
    nodata: float | None = None

    @property
    def size(self) -> int:
        """Bytes of one chip in this band."""
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


class Normalization(BaseModel):
    """Where the mean and the standard deviation of bands come from, and of what they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["sensor", "snapshot"] = "sensor"
    """The sensor's table, or what was measured over the usable chips of a snapshot."""
    snapshot: str | None = None
    statistics: str | None = None
    """Name of the snapshot's statistics."""
    decibels: bool = False
    """Whether they are of 10 log10 of the physical value, not of the digital number."""


class SceneFile(CheckedFile):
    """A GeoTIFF that lies beside the pack as it lies in the archive."""

    file: str
    size: PositiveInt
    """Bytes."""
    sha256: str | None = Field(default=None, exclude_if=lacking)
    """Of files that were staged when there was no `checksum`."""
    checksum: str | None = Field(default=None, exclude_if=lacking)
    """A multihash."""


class BandPlace(BaseModel):
    """Where the chips of a band lie in such a file; pairs are of (y, x)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: NonNegativeInt
    """Index into `files`."""
    index: PositiveInt
    """Position of the band in the file, from 1."""
    edge: PositiveInt | None
    """Pixels of a chip along each axis, where they fall evenly; None: the nearest is taken."""
    ratio: tuple[float, float]
    """How much coarser a pixel is than one of the finest grid."""
    inset: tuple[float, float]
    """Fine pixels from the file's edge to the first chip."""
    size: tuple[PositiveInt, PositiveInt]
    """Pixels of the file."""
    fill: float
    """Stands where the file does not hold a block."""


class PackHeader(BaseModel):
    """What all chips of a pack share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    collection: str
    scene: str
    datetime: AwareDatetime
    """Time of acquisition; of a composite the middle of its period."""
    platform: str | None = None
    chip_size: PositiveInt
    """Edge of a chip in pixels of the finest grid."""
    gsd: float
    """Pixel size of the finest grid in metres."""
    bands: tuple[PackBand, ...]
    normalization: Normalization = Normalization()
    codec: Codec = "none"
    encoding: Encoding = "plain"
    proof: Proof = "files"
    files: tuple[SceneFile, ...] = ()
    """Where the pixels are, if not in the pack."""
    places: tuple[BandPlace, ...] = ()
    """Of each band, where there are files."""

    @property
    def chip_bytes(self) -> int:
        """Bytes of one chip over all bands."""
        return sum(band.size for band in self.bands)


def lay_out(bands: list[PackBand]) -> tuple[PackBand, ...]:
    """Give each band its place in a chip, one after the other in this order."""
    placed: list[PackBand] = []
    start = 0
    for band in bands:
        placed.append(band.model_copy(update={"start": start}))
        start += band.size
    return tuple(placed)


def pack_schema(header: PackHeader) -> pa.Schema:
    """Describe the file: a row a chip, the header as metadata; no pixels where there are files."""
    return pack_columns(header).with_metadata({HEADER: header.model_dump_json().encode()})


def pack_columns(header: PackHeader) -> pa.Schema:
    """Describe the columns alone."""
    return _columns(None if header.files else header.chip_bytes)


@lru_cache(maxsize=16)
def _columns(width: int | None) -> pa.Schema:
    """Describe the columns; `width` is the bytes of a chip's pixels."""
    pixels = [] if width is None else [pa.field("pixels", pa.binary(width), nullable=False)]
    return pa.schema(
        [
            pa.field("chip_id", pa.string(), nullable=False),
            pa.field("row", pa.uint16(), nullable=False),
            pa.field("col", pa.uint16(), nullable=False),
            pa.field("lat", pa.float64(), nullable=False),
            pa.field("lon", pa.float64(), nullable=False),
            pa.field("cloud_fraction", pa.float32(), nullable=False),
            pa.field("nodata_fraction", pa.float32(), nullable=False),
            *pixels,
        ]
    )


def read_header(schema: pa.Schema, *, where: str) -> PackHeader:
    """Read the header of a pack from its schema.

    Raises:
        PackError: The file is not a chip pack, or of another version; `where` names it.
    """
    raw = cast("dict[bytes, bytes] | None", schema.metadata) or {}
    try:
        return PackHeader.model_validate_json(raw[HEADER])
    except KeyError as err:
        raise PackError(f"{where} is an Arrow file but not a chip pack; stage it again") from err
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        message = f"{where} has a chip pack header this version cannot read: {first['msg']}"
        raise PackError(message) from err


def encoding_of(codec: Codec) -> Encoding:
    """Say how bands lie in the chips of a pack that staging writes with this codec."""
    return "plain" if codec == "none" else "byte_stream_split"


def write_options(codec: Codec) -> ipc.IpcWriteOptions:
    """Give the options of Arrow's writer for a codec."""
    return ipc.IpcWriteOptions(compression=None if codec == "none" else codec)


def split_bytes(records: NDArray[np.uint8], bands: tuple[PackBand, ...]) -> NDArray[np.uint8]:
    """Part the bytes of the samples of each band; records have the shape (chips, bytes)."""
    parted = np.empty_like(records)
    for band in bands:
        width, place = np.dtype(band.dtype).itemsize, slice(band.start, band.start + band.size)
        samples = records[:, place].reshape(len(records), -1, width)
        parted[:, place].reshape(len(records), width, -1)[...] = samples.transpose(0, 2, 1)
    return parted


def join_bytes(
    record: NDArray[np.uint8], bands: tuple[PackBand, ...], out: NDArray[np.uint8], *, start: int
) -> None:
    """Undo `split_bytes` for those bands of one chip that lie in the bytes from `start` on.

    Args:
        record: The chip's bytes, parted.
        bands: The pack's.
        out: Where the samples go, contiguous; whole bands.
        start: The first byte of the chip that is wanted.
    """
    for band in bands:
        if not start <= band.start < start + len(out):
            continue
        width = np.dtype(band.dtype).itemsize
        parted = record[band.start : band.start + band.size].reshape(width, -1)
        joined = out[band.start - start :][: band.size].reshape(-1, width)
        for number, part in enumerate(parted):
            joined[:, number] = part


def encode_pixels(pixels: NDArray[np.uint8]) -> pa.FixedSizeBinaryArray:
    """Wrap records of shape (chips, bytes) as an Arrow column without a copy."""
    chips, width = pixels.shape
    data = pa.py_buffer(np.ascontiguousarray(pixels).data)
    kind = cast("Any", pa.binary(width))  # the stubs know no common type of all columns
    return cast("pa.FixedSizeBinaryArray", pa.Array.from_buffers(kind, chips, [None, data]))


def decode_pixels(column: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    """View a `pixels` column as records of shape (chips, bytes), without a copy."""
    width = column.type.byte_width
    data = column.buffers()[1]
    if data is None:
        return np.empty((0, width), np.uint8)
    flat = np.frombuffer(memoryview(data), np.uint8)
    return flat[column.offset * width :][: len(column) * width].reshape(len(column), width)


def band_view(records: NDArray[np.uint8], band: PackBand) -> NDArray[np.generic]:
    """View one band of records of shape (chips, bytes) as (chips, y, x), without a copy."""
    part = records[:, band.start : band.start + band.size]
    dtype = np.dtype(band.dtype).newbyteorder("<")
    return part.view(dtype).reshape(len(records), *band.shape)


def middle(start: datetime, end: datetime) -> datetime:
    """Give the time in the middle of a period: the time that a model sees of a composite."""
    return start + (end - start) / 2
