"""Keep the copies of a process under a number of bytes a second."""

import threading
import time
from collections.abc import Iterable, Iterator

from chipmill.io.shared import shared


class Throttle:
    """Lets bytes pass at a rate that all who hold it share."""

    def __init__(self, rate: int) -> None:
        """Begin with nothing owed; `rate` is in bytes a second."""
        self._rate = rate
        self._lock = threading.Lock()
        self._free = 0.0

    def of(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass the pieces on unchanged, each when its time has come."""
        for piece in pieces:
            time.sleep(self._wait(len(piece)))
            yield piece

    def _wait(self, size: int) -> float:
        """Take the next stretch of time that `size` bytes need; give the seconds until its end."""
        now = time.monotonic()
        with self._lock:
            self._free = max(self._free, now) + size / self._rate
            return self._free - now


@shared
def throttle(rate: int) -> Throttle:
    """Give this process's throttle of a rate: one for all copies."""
    return Throttle(rate)
