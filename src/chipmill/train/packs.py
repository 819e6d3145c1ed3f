"""One chip pack, opened for reading: its small columns in memory, its pixels read where they lie.

Arrow's memory map finds the pixels; `pread` fetches them. A page fault on a file that another host
has cut short ends the process with SIGBUS; a short read is an error that names the chip.
"""

import mmap
import os
from dataclasses import dataclass
from datetime import UTC
from itertools import chain
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from chipmill.errors import PackError
from chipmill.formats.pack import PackBand, PackHeader, decode_pixels, pack_columns, read_header
from chipmill.train.pixels import CompressedPixels, Pixels, PlainPixels

FACTS = ("wavelength", "fwhm", "gsd", "mean", "std", "scale", "offset")
"""What a pack's header says of each band, in the order of `Pack.facts`."""

_DTYPES = {
    **dict.fromkeys(("row", "col"), "<u2"),
    **dict.fromkeys(("lat", "lon"), "<f8"),
    "cloud_fraction": "<f4",
}
_ENDS = 16 << 10
"""Bytes at either end of a pack that its schema, its footer and its first small columns take."""
_SMALL = [0, 1, 2, 3, 4, 5]
"""The columns of these, and the names of the chips."""


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """The chips of one scene; the file is closed with the last reference."""

    path: Path | str
    """Where it lies; a URL where that is a store."""
    header: PackHeader
    chip_ids: tuple[str, ...]
    latlon: NDArray[np.float64]
    """Centre of each chip, shape (chips, 2): latitude and longitude in degrees."""
    cloud_fraction: NDArray[np.float32]
    """Shape (chips,), in [0, 1]."""
    facts: NDArray[np.float32]
    """FACTS of each band, shape (facts, bands); NaN where unknown."""
    time: np.datetime64
    """Acquisition in UTC, microseconds."""
    source: Pixels

    @classmethod
    def open(cls, path: Path, *, size: int) -> Self:
        """Open a pack.

        Args:
            path: The Arrow IPC file.
            size: Bytes that the manifest says the file has.

        Raises:
            PackError: The file is not there, has another size, or is not a chip pack.
        """
        try:
            return cls._open(path, size=size)
        except (OSError, pa.ArrowException) as err:
            raise PackError(
                f"{path} cannot be read as a chip pack ({err}); stage its megabatch again"
            ) from err

    @classmethod
    def _open(cls, path: Path, *, size: int) -> Self:
        whole = _mapped(path, size)
        reader = ipc.open_file(whole)
        header = read_header(reader.schema, where=str(path))
        if not reader.schema.equals(pack_columns(header)):
            raise PackError(
                f"{path} has columns that do not fit its header; stage its megabatch again"
            )
        if header.codec != "none":  # without touching a pixel
            wanted = ipc.IpcReadOptions(included_fields=_SMALL)
            reader = ipc.open_file(whole, options=wanted)
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        rows = _Rows.of(batches)
        return cls.made(
            path,
            header,
            chip_ids=rows.chip_ids,
            latlon=rows.latlon,
            cloud_fraction=rows.cloud_fraction,
            source=_source(path, header, batches, whole=whole, rows=rows),
        )

    @classmethod
    def made(
        cls,
        path: Path | str,
        header: PackHeader,
        *,
        chip_ids: tuple[str, ...],
        latlon: NDArray[np.float64],
        cloud_fraction: NDArray[np.float32],
        source: Pixels,
    ) -> Self:
        """Make a pack of what is known of it; see the fields."""
        return cls(
            path=path,
            header=header,
            chip_ids=chip_ids,
            latlon=latlon,
            cloud_fraction=cloud_fraction,
            facts=_facts(header.bands),
            time=np.datetime64(header.datetime.astimezone(UTC).replace(tzinfo=None), "us"),
            source=source,
        )

    def __len__(self) -> int:
        """Count the chips."""
        return len(self.chip_ids)

    def read(
        self,
        chip: int,
        parts: list[NDArray[np.uint8]],
        *,
        start: int = 0,
        wait: bool = True,
    ) -> bool:
        """Copy the pixels of one chip, or a part of them.

        Args:
            chip: Index of the chip: its row number in the file.
            parts: Where the bytes go, one part after the other, each contiguous and of whole bands.
            start: The first byte of the chip that is copied.
            wait: Whether to wait for a disk or a decoder.

        Returns:
            Whether they were copied; always with `wait`.

        Raises:
            PackError: There is no such chip, or its bytes cannot be read.
        """
        if not 0 <= chip < len(self):
            raise PackError(f"{self.path} has {len(self)} chips, there is none at index {chip}")
        try:
            return self.source.read(chip, parts, start=start, wait=wait)
        except (OSError, EOFError, pa.ArrowException) as err:
            raise PackError(
                f"chip {self.chip_ids[chip]} cannot be read from {self.path} ({err}); "
                "stage its megabatch again"
            ) from err


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The small columns of a pack, copied out of the file."""

    chip_ids: tuple[str, ...]
    latlon: NDArray[np.float64]
    cloud_fraction: NDArray[np.float32]
    firsts: NDArray[np.int64]
    """First chip of each record batch."""

    @classmethod
    def of(cls, batches: list[pa.RecordBatch]) -> Self:
        """Copy them."""
        lengths = [0, *(batch.num_rows for batch in batches)]
        names = [cast("list[str]", batch.column("chip_id").to_pylist()) for batch in batches]
        lat, lon, cloud = (_joined(batches, name) for name in ("lat", "lon", "cloud_fraction"))
        return cls(
            chip_ids=tuple(chain.from_iterable(names)),
            latlon=np.column_stack([lat, lon]),
            cloud_fraction=cloud,
            firsts=np.cumsum(lengths, dtype=np.int64)[:-1],
        )


def _joined(batches: list[pa.RecordBatch], name: str) -> NDArray[Any]:
    """Copy a column of numbers; Arrow's own ways to NumPy load pandas where it is installed."""
    found: list[NDArray[Any]] = []
    for batch in batches:
        column = cast("Any", batch.column(name))  # the stubs do not tell kinds of arrays apart
        values = np.frombuffer(column.buffers()[1], _DTYPES[name])
        found.append(values[column.offset : column.offset + len(column)])
    return np.concatenate(found)


def _mapped(path: Path, size: int) -> pa.Buffer:
    """Map a file, and read nothing of it: Arrow's own map asks for all of it at once.

    Raises:
        PackError: It has another size.
    """
    with path.open("rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != size:
            raise PackError(
                f"{path} has {found} bytes where the manifest says {size}; "
                "stage its megabatch again"
            )
        for start in (0, size - _ENDS):  # here other threads go on while a disk is read
            os.pread(file.fileno(), _ENDS, max(0, start))
        whole = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            whole.madvise(mmap.MADV_RANDOM)  # else a page that is looked at brings megabytes
        return pa.py_buffer(whole)


def _source(
    path: Path,
    header: PackHeader,
    batches: list[pa.RecordBatch],
    *,
    whole: pa.Buffer,
    rows: _Rows,
) -> Pixels:
    """Find where each chip's pixels lie in the file; compressed ones lie nowhere as they are."""
    if header.files:
        from chipmill.train.scenes import SceneFiles  # noqa: PLC0415  # its packages are an extra

        places = np.column_stack([_joined(batches, name) for name in ("row", "col")])
        return SceneFiles(path.parent, header, places)
    if header.codec != "none" or header.encoding != "plain":
        return CompressedPixels(path, header, rows.firsts)
    starts: list[NDArray[np.int64]] = []
    for batch in batches:
        pixels = decode_pixels(cast("pa.FixedSizeBinaryArray", batch.column("pixels")))
        start = pixels.ctypes.data - whole.address
        if not 0 <= start <= whole.size - pixels.nbytes:
            return CompressedPixels(path, header, rows.firsts)
        starts.append(start + np.arange(len(pixels)) * pixels.shape[1])
    return PlainPixels(path, np.concatenate(starts))


def _facts(bands: tuple[PackBand, ...]) -> NDArray[np.float32]:
    """Tabulate FACTS, shape (facts, bands); None becomes NaN."""
    rows = [[cast("float | None", getattr(band, fact)) for band in bands] for fact in FACTS]
    return np.array(rows, np.float32)
