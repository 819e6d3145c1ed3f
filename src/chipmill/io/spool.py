"""A temporary file that holds many byte strings, so that memory need not."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

Place = tuple[int, int]
"""First byte and number of bytes."""


@dataclass(slots=True)
class Spool:
    """Written by one thread; read by any number, of what was added before."""

    _file: IO[bytes]
    _end: int = field(default=0)

    def add(self, data: bytes) -> Place:
        """Keep bytes; gives their place."""
        place = (self._end, len(data))
        self._file.write(data)
        self._end += len(data)
        return place

    def read(self, place: Place) -> bytes:
        """Give the bytes at a place."""
        start, size = place
        return os.pread(self._file.fileno(), size, start)


@contextmanager
def spooled() -> Generator[Spool]:
    """Open a spool on the disk for temporary files; it is gone when the block ends."""
    with tempfile.TemporaryFile(prefix="chipmill-", buffering=0) as file:
        yield Spool(file)
