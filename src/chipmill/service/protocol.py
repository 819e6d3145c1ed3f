"""HTTP connections that say quickly what they want: uvicorn itself waits for headers for ever."""

import asyncio
from typing import ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 5.0
"""Time in which a request's headers must have come, from the connection or from their first byte.
Between requests uvicorn's own time limit holds, which is 5 s as well."""

MOST_SILENT: Final = 512
"""Connections whose headers are not there; one more, and the oldest of them is closed."""


class ImpatientProtocol(H11Protocol):
    """Closes connections that send headers too slowly or not at all."""

    _silent: ClassVar[dict["ImpatientProtocol", asyncio.TimerHandle]] = {}
    """Those that are waited for, oldest first, of the one server that a process runs."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first headers."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on; wait for the rest where the headers are not whole."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._wait()
        else:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._wait_no_more()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End with the server; a stream, which would never end by itself, is told to."""
        super().shutdown()
        if self.cycle and self.cycle.response_started:  # None before the first request
            self.transport.close()  # what is written still goes out

    def hang_up(self) -> None:
        """Close the connection: nobody waits for it any more."""
        self._wait_no_more()
        self.transport.abort()

    def _wait(self) -> None:
        if self in self._silent:
            return
        if len(self._silent) >= MOST_SILENT:
            next(iter(self._silent)).hang_up()
        self._silent[self] = self.loop.call_later(HEAD_SECONDS, self.hang_up)

    def _wait_no_more(self) -> None:
        timer = self._silent.pop(self, None)
        if timer is not None:
            timer.cancel()
