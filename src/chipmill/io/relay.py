"""Hand pieces from the thread that reads them to the thread that writes them."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from threading import Event, Thread

AHEAD = 4
"""Pieces that are read while one is written; what a copy holds in memory."""
_LOOK = 0.05
"""Seconds between two looks at whether the reader has ended."""


@contextmanager
def relayed(pieces: Iterable[bytes]) -> Generator[Iterator[bytes]]:
    """Read pieces in a thread of their own, a little ahead of who takes them.

    obstore waits inside of a write for the next piece, and must not wait there for a read of its
    own. What goes wrong while reading is raised where the piece is taken. The thread has ended when
    the block has.
    """
    line: Queue[bytes | BaseException | None] = Queue(AHEAD)
    unwanted = Event()

    def read() -> None:
        try:
            for piece in pieces:
                line.put(piece)
                if unwanted.is_set():
                    return
            line.put(None)
        except BaseException as err:  # noqa: BLE001  it is raised in the other thread
            line.put(err)

    reader = Thread(target=read, name="relay", daemon=True)
    reader.start()
    try:
        yield _taken(line)
    finally:
        unwanted.set()
        while reader.is_alive():
            with suppress(Empty):
                line.get(timeout=_LOOK)
        reader.join()


def _taken(line: "Queue[bytes | BaseException | None]") -> Iterator[bytes]:
    while (piece := line.get()) is not None:
        if isinstance(piece, BaseException):
            raise piece
        yield piece
