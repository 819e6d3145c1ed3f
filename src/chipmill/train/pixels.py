"""Where the pixels of a pack's chips come from: its file, plain or compressed."""

import errno
import os
import weakref
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from chipmill.formats.pack import PackHeader, decode_pixels, join_bytes

_AT_HAND = getattr(os, "RWF_NOWAIT", 0)
"""Reads what is in memory and does not wait for a disk, where the system can."""
_NOT_AT_HAND = {errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL}


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


class PlainPixels:
    """Pixels that lie in the file as they are: one contiguous read a chip."""

    def __init__(self, path: Path, starts: NDArray[np.int64]) -> None:
        """Open the file; `starts` are the first bytes of its chips, shape (chips,)."""
        self._starts = starts
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        if hasattr(os, "posix_fadvise"):
            # Chips are read whole, here and there: each at once, and nothing behind it.
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, chip: int, parts: list[NDArray[np.uint8]], *, start: int, wait: bool) -> bool:
        """Read a chip's bytes in one go; see `Pixels`."""
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


class CompressedPixels:
    """Pixels that Arrow decompresses, a record batch at a time; staging writes one a chip."""

    def __init__(self, path: Path, header: PackHeader, firsts: NDArray[np.int64]) -> None:
        """Open the file; `firsts` are the first chips of its record batches, shape (batches,)."""
        self._firsts = firsts
        self._bands = header.bands if header.encoding == "byte_stream_split" else ()
        self._reader = ipc.open_file(pa.memory_map(str(path)))

    def read(self, chip: int, parts: list[NDArray[np.uint8]], *, start: int, wait: bool) -> bool:
        """Decompress a chip; see `Pixels`."""
        if not wait:
            return False
        number = int(np.searchsorted(self._firsts, chip, side="right")) - 1
        row = pixels_of(self._reader, number)[chip - int(self._firsts[number])]
        for part in parts:  # of whole bands, each
            if self._bands:
                join_bytes(row, self._bands, part, start=start)
            else:
                part[:] = row[start : start + len(part)]
            start += len(part)
        return True


def pixels_of(reader: ipc.RecordBatchFileReader, number: int) -> NDArray[np.uint8]:
    """View the pixels of one record batch, shape (chips, bytes)."""
    batch = cast("_Columns", reader.get_batch(number))
    return decode_pixels(batch.column("pixels"))
