"""One chip pack, opened for reading: its small columns in memory, its pixels read where they lie.

Arrow's memory map finds the pixels; `pread` fetches them. A page fault on a file that another host
has cut short ends the process with SIGBUS; a short read is an error that names the chip.
"""

import errno
import os
import weakref
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import NamedTuple, Protocol, Self, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from chipmill.errors import PackError
from chipmill.formats.pack import (
    PackBand,
    PackHeader,
    decode_pixels,
    join_bytes,
    pack_schema,
    read_header,
)

FACTS = ("wavelength", "fwhm", "gsd", "mean", "std", "scale", "offset")
"""What a pack's header says of each band, in the order of `Pack.facts`."""

_AT_HAND = getattr(os, "RWF_NOWAIT", 0)
"""Reads what is in memory and does not wait for a disk, where the system can."""
_NOT_AT_HAND = {errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL}


class About(NamedTuple):
    """What is known of one chip besides its pixels."""

    chip_id: str
    latlon: NDArray[np.float64]
    """Latitude and longitude in degrees, shape (2,)."""
    cloud_fraction: np.float32
    facts: NDArray[np.float32]
    """FACTS of each band, shape (facts, bands)."""
    time: np.datetime64


class _Columns(Protocol):
    """A record batch of a pack, as far as pixels go."""

    def column(self, name: str) -> pa.FixedSizeBinaryArray:
        """Give the column."""
        ...


class Pixels(Protocol):
    """Where the pixels of a pack's chips come from; safe for several threads."""

    def read(self, chip: int, parts: list[NDArray[np.uint8]], *, start: int, wait: bool) -> bool:
        """Fill `parts`, one after the other, with one chip's bytes from `start` on.

        Args:
            chip: Row number in the file.
            parts: Contiguous, each of shape (bytes,), and of whole bands.
            start: First byte of the chip that is wanted.
            wait: Whether a disk or a decoder may take its time; without it, what is not at hand
                is asked for again in another thread, beside others.

        Returns:
            Whether the parts are filled; always with `wait`.

        Raises:
            OSError: The file cannot be read.
            EOFError: It ends too early.
        """
        ...


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
        found = path.stat().st_size
        if found != size:
            raise PackError(
                f"{path} has {found} bytes where the manifest says {size}; "
                "stage its megabatch again"
            )
        with pa.memory_map(str(path)) as mapped:
            whole = mapped.read_buffer(size)
            reader = ipc.open_file(whole)
            header = read_header(reader.schema, where=str(path))
            if not reader.schema.equals(pack_schema(header)):
                raise PackError(
                    f"{path} has columns that do not fit its header; stage its megabatch again"
                )
            rows = _Rows.read(whole)
            source = _source(path, reader, header, whole=whole, rows=rows)
        return cls.made(
            path,
            header,
            chip_ids=rows.chip_ids,
            latlon=rows.latlon,
            cloud_fraction=rows.cloud_fraction,
            source=source,
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

    def about(self, chip: int) -> About:
        """Tell what is known of a chip, by its row number."""
        return About(
            chip_id=self.chip_ids[chip],
            latlon=self.latlon[chip],
            cloud_fraction=self.cloud_fraction[chip],
            facts=self.facts,
            time=self.time,
        )

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
    def read(cls, whole: pa.Buffer) -> Self:
        """Read them without touching a pixel, compressed or not."""
        wanted = ipc.IpcReadOptions(included_fields=[0, 3, 4, 5])
        reader = ipc.open_file(whole, options=wanted)
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        table = pa.Table.from_batches(batches)
        lengths = [0, *(batch.num_rows for batch in batches)]
        return cls(
            chip_ids=tuple(cast("list[str]", table.column("chip_id").to_pylist())),
            latlon=np.column_stack([table.column("lat"), table.column("lon")]),
            cloud_fraction=np.array(table.column("cloud_fraction"), np.float32),
            firsts=np.cumsum(lengths, dtype=np.int64)[:-1],
        )


class _Plain:
    """Pixels that lie in the file as they are: one contiguous read a chip."""

    def __init__(self, path: Path, starts: NDArray[np.int64]) -> None:
        self._starts = starts  # first byte of each chip in the file
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        if hasattr(os, "posix_fadvise"):
            # Chips are read whole, here and there: each at once, and nothing behind it.
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, chip: int, parts: list[NDArray[np.uint8]], *, start: int, wait: bool) -> bool:
        at = int(self._starts[chip]) + start
        if not wait:
            return self._is_at_hand(parts, at)
        wanted = sum(map(len, parts))
        got = os.preadv(self._file, _buffers(parts), at)
        if got < wanted:
            self._read_on(parts, at, got=got)
        return True

    def _is_at_hand(self, parts: list[NDArray[np.uint8]], at: int) -> bool:
        """Read what is in memory; say whether that was all."""
        if not _AT_HAND:
            return False
        try:
            return os.preadv(self._file, _buffers(parts), at, _AT_HAND) == sum(map(len, parts))
        except OSError as err:
            if err.errno in _NOT_AT_HAND:
                return False
            raise

    def _read_on(self, parts: list[NDArray[np.uint8]], at: int, *, got: int) -> None:
        """Go on after a read that was interrupted."""
        for part in parts:
            left = part.data[got:]
            got, at = max(0, got - len(part)), at + len(part) - len(left)
            while left:
                more = os.preadv(self._file, [left], at)
                if not more:
                    raise EOFError(f"the file ends {len(left)} bytes too early")
                left, at = left[more:], at + more


def _buffers(parts: list[NDArray[np.uint8]]) -> list[memoryview]:
    """Give arrays the type that the checker knows as writable memory."""
    return cast("list[memoryview]", parts)


class _Compressed:
    """Pixels that Arrow decompresses, a record batch at a time; staging writes one a chip."""

    def __init__(self, path: Path, header: PackHeader, firsts: NDArray[np.int64]) -> None:
        self._firsts = firsts
        self._bands = header.bands if header.encoding == "byte_stream_split" else ()
        self._reader = ipc.open_file(pa.memory_map(str(path)))

    def read(self, chip: int, parts: list[NDArray[np.uint8]], *, start: int, wait: bool) -> bool:
        if not wait:
            return False
        number = int(np.searchsorted(self._firsts, chip, side="right")) - 1
        row = _pixels(self._reader, number)[chip - int(self._firsts[number])]
        for part in parts:  # of whole bands, each
            if self._bands:
                join_bytes(row, self._bands, part, start=start)
            else:
                part[:] = row[start : start + len(part)]
            start += len(part)
        return True


def _source(
    path: Path,
    reader: ipc.RecordBatchFileReader,
    header: PackHeader,
    *,
    whole: pa.Buffer,
    rows: _Rows,
) -> Pixels:
    """Find where each chip's pixels lie in the file; compressed ones lie nowhere as they are."""
    if header.files:
        from chipmill.train.scenes import SceneFiles  # noqa: PLC0415  # its packages are an extra

        table = reader.read_all()
        places = np.column_stack([table.column("row"), table.column("col")])
        return SceneFiles(path.parent, header, places)
    if header.encoding != "plain":
        return _Compressed(path, header, rows.firsts)
    starts: list[NDArray[np.int64]] = []
    for number in range(reader.num_record_batches):
        pixels = _pixels(reader, number)
        start = pixels.ctypes.data - whole.address
        if not 0 <= start <= whole.size - pixels.nbytes:
            return _Compressed(path, header, rows.firsts)
        starts.append(start + np.arange(len(pixels)) * pixels.shape[1])
    return _Plain(path, np.concatenate(starts))


def _pixels(reader: ipc.RecordBatchFileReader, number: int) -> NDArray[np.uint8]:
    """View the pixels of one record batch, shape (chips, bytes)."""
    batch = cast("_Columns", reader.get_batch(number))
    return decode_pixels(batch.column("pixels"))


def _facts(bands: tuple[PackBand, ...]) -> NDArray[np.float32]:
    """Tabulate FACTS, shape (facts, bands); None becomes NaN."""
    rows = [[cast("float | None", getattr(band, fact)) for band in bands] for fact in FACTS]
    return np.array(rows, np.float32)
