"""Write files to the disk past the page cache.

What is staged or copied is read much later and is often larger than memory: kept in the cache it
would push out the packs that are trained on now. And the way there costs as much CPU as receiving
the bytes, more where memory is in pieces.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol, Self

from chipmill.model.memory import Memory

_ROOM = 4 << 20
"""Bytes of one write: each waits for the disk, but processors that decode meanwhile do not."""
_DIRECT = getattr(os, "O_DIRECT", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_MEMORY = Memory(keep=16)


class Writer(Protocol):
    """A file that is written from its beginning to its end."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Write all of the bytes."""
        ...

    def sync(self) -> None:
        """Wait until all that was written is on the disk; nothing is written afterwards."""
        ...


class Direct:
    """A new file that goes to the disk in large aligned writes from one piece of memory.

    Where the file system has no such writes the pages are dropped when they are on the disk.
    """

    def __init__(self, path: Path) -> None:
        """Make the file, or empty it."""
        self._direct = bool(_DIRECT)
        try:
            self._handle = os.open(path, _NEW | _DIRECT, 0o666)
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise
            self._direct = False
            self._handle = os.open(path, _NEW, 0o666)
        self._room = _MEMORY.empty(_ROOM).data
        self._held = 0

    def __enter__(self) -> Self:
        """Give the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        os.close(self._handle)

    def write(self, data: bytes | memoryview, /) -> None:
        """Write all of the bytes, or hold them until there are more."""
        left = memoryview(data).cast("B")
        while left:
            count = min(len(left), _ROOM - self._held)
            self._room[self._held : self._held + count] = left[:count]
            self._held += count
            left = left[count:]
            if self._held == _ROOM:
                self._put()

    def finish(self) -> None:
        """Write the rest, which is not aligned and so goes through the cache; nothing is synced."""
        self._be_plain()
        self._put()

    def sync(self) -> None:
        """Write the rest and wait for the disk."""
        self.finish()
        os.fsync(self._handle)
        os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def _put(self) -> None:
        rest = self._room[: self._held]
        while rest:
            try:
                count = os.write(self._handle, rest)
            except OSError as err:
                if err.errno != errno.EINVAL or not self._direct:
                    raise
                self._be_plain()  # it was opened so all the same
                continue
            rest = rest[count:]
        self._held = 0

    def _be_plain(self) -> None:
        if self._direct:
            flags = fcntl.fcntl(self._handle, fcntl.F_GETFL)
            fcntl.fcntl(self._handle, fcntl.F_SETFL, flags & ~_DIRECT)
            self._direct = False


class Cached:
    """A new file that stays in the page cache, where it is read at once."""

    def __init__(self, path: Path) -> None:
        """Make the file, or empty it."""
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        """Give the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def write(self, data: bytes | memoryview, /) -> None:
        """Write all of the bytes."""
        self._file.write(data)

    def sync(self) -> None:
        """Wait until all is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
