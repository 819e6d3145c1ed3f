"""Bodies that are being read: each costs a little memory, and a slow one nobody else's place."""

import asyncio
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from starlette.requests import ClientDisconnect, Request

from chipmill.service.refusal import Refusal

MOST_BYTES: Final = 20 * 1024
"""Largest body; the specification of Standard Webhooks recommends to stay below 20 kB."""

BODY_SECONDS: Final = 5.0
"""Time in which a body must have come."""

MOST_READING: Final = 256
"""Bodies that are read at one time; an honest one is there within milliseconds."""

_DIGITS: Final = re.compile(r"[0-9]{1,19}")


def check_size(request: Request) -> None:
    """Look at the size that the headers declare, before a byte is read.

    Raises:
        Refusal: 413 when it is more than `MOST_BYTES`.
    """
    declared = request.headers.get("content-length", "0")
    if not _DIGITS.fullmatch(declared) or int(declared) > MOST_BYTES:
        raise _too_large()


class ReadingRoom:
    """Reads bodies side by side; when all places are taken, the slowest reader has to go."""

    def __init__(self, places: int = MOST_READING) -> None:
        """Have so many places."""
        self._places = places
        self._limits: dict[asyncio.Timeout, None] = {}  # in the order in which they came

    async def read(self, request: Request) -> bytes:
        """Read a small body quickly or not at all.

        Raises:
            Refusal: 413 when more than `MOST_BYTES` come; 408 when they do not come in
                `BODY_SECONDS`, or more readers came later than there are places.
        """
        body = b""
        try:
            async with asyncio.timeout(BODY_SECONDS) as limit:
                with self._place(limit):
                    async for piece in request.stream():
                        body += piece
                        if len(body) > MOST_BYTES:
                            raise _too_large()
        except (TimeoutError, ClientDisconnect) as err:
            raise Refusal(408, f"the body was not there in {BODY_SECONDS:.0f} s") from err
        return body

    @contextmanager
    def _place(self, limit: asyncio.Timeout) -> Generator[None]:
        if len(self._limits) >= self._places:
            slowest = next(iter(self._limits))
            del self._limits[slowest]
            slowest.reschedule(asyncio.get_running_loop().time())
        self._limits[limit] = None
        try:
            yield
        finally:
            self._limits.pop(limit, None)


def _too_large() -> Refusal:
    return Refusal(413, f"the body is larger than {MOST_BYTES} bytes")
