"""Read headers of files that lie elsewhere: a page at a time, each page once."""

from collections.abc import Generator
from contextlib import contextmanager
from io import SEEK_CUR, SEEK_END, RawIOBase
from typing import BinaryIO, cast

from chipmill.io.store import Store

GAP = 2**14
"""Two ranges that are this near to each other are read as one."""
_PAGE = 2**15
"""Bytes of a page: the header of a COG is shorter as a rule, and so costs one request."""


@contextmanager
def open_file(store: Store, key: str) -> Generator[BinaryIO]:
    """Open a file to read its header, wherever it lies.

    Raises:
        MissingError: There is nothing at this key.
        TransientError: The store did not answer.
    """
    path = store.local_path(key)
    if path and path.is_file():
        with path.open("rb") as file:
            yield file
    else:
        yield cast("BinaryIO", _Remote(store, key))


class _Remote(RawIOBase):
    """A file of which pages are read once, when they are needed."""

    def __init__(self, store: Store, key: str) -> None:
        """Open an object of a store, which may be missing."""
        self._store, self._key = store, key
        first, self._size = store.beginning(key, _PAGE)
        self._pages = {0: first}
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = {SEEK_CUR: self._at, SEEK_END: self._size}.get(whence, 0) + offset
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        pages = range(self._at // _PAGE, -(-end // _PAGE))
        missing = [page for page in pages if page not in self._pages]
        starts = [page * _PAGE for page in missing]
        ends = [min(start + _PAGE, self._size) for start in starts]
        if missing:
            read = self._store.ranges(self._key, starts, ends, gap=GAP)
            self._pages |= zip(missing, map(bytes, read), strict=True)
        data = b"".join(self._pages[page] for page in pages)
        first = self._at - pages[0] * _PAGE
        found = data[first : first + end - self._at]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)
