"""A proxy on loopback that breaks HTTP answers in the ways networks and servers do."""

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

FAULTS = ("reset", "cut", "stall", "flip", "lost", "500", "503", "429")
"""What may go wrong:

* `reset`: a part of the answer, then the connection is reset
* `cut`: a part of the answer, then the connection is closed
* `stall`: a part of the answer, then nothing more
* `flip`: one bit of the body is another; of the request's body where the answer has none
* `lost`: the request is done, its answer never comes
* a number: this status, and the request is not done
"""
_REASONS = {
    "500": "Internal Server Error",
    "503": "Service Unavailable",
    "429": "Too Many Requests",
}
_BODILESS = {b"HEAD"}


@dataclass(frozen=True)
class Message:
    """A request or an answer of HTTP/1.1."""

    first: bytes
    headers: Mapping[bytes, bytes]
    body: bytes

    def encode(self, body: bytes | None = None) -> bytes:
        """Give the bytes, with another body of the same length where one is given."""
        lines = [self.first, *(name + b": " + value for name, value in self.headers.items())]
        return b"\r\n".join(lines) + b"\r\n\r\n" + (self.body if body is None else body)


class FaultProxy:
    """Stands before a server and breaks a share of the exchanges, by a seeded draw."""

    def __init__(self, port: int, *, seed: int, share: float, faults: tuple[str, ...]) -> None:
        """Stand before `port` of loopback; `share` of the exchanges with a body go wrong."""
        self._to = port
        self._draw = random.Random(seed)  # noqa: S311  # faults, no secrets
        self._share = share
        self._faults = faults
        self.happened: Counter[str] = Counter()
        self.sent: Counter[bytes] = Counter()
        """How many requests had each header."""
        self.bodies = 0
        """Bytes of all bodies, in both directions."""
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def faulty(self) -> int:
        """How many exchanges went wrong."""
        return sum(self.happened.values()) - self.happened[""]

    async def serve(self, started: threading.Event) -> None:
        """Listen until told to stop."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()

    def stop(self) -> None:
        """Listen no more."""
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Cancelled is what remains open when the test ends.
            with suppress(
                ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError
            ):
                while await self._exchange(await _read(reader), writer):
                    pass
        finally:
            writer.close()

    async def _exchange(self, request: Message, writer: asyncio.StreamWriter) -> bool:
        """Do one exchange; tells whether the connection goes on."""
        self.sent.update(list(request.headers))
        fault = self._fault()
        self.happened[fault] += 1
        if fault in _REASONS:
            text = (
                f"HTTP/1.1 {fault} {_REASONS[fault]}\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
            )
            writer.write(text.encode())
            await writer.drain()
            return True
        if fault == "flip" and request.body:
            request = Message(request.first, request.headers, self._flipped(request.body))
            fault = ""
        answer = await self._forward(request)
        self.bodies += len(request.body) + len(answer.body)
        if fault == "lost":
            _reset(writer)
            return False
        body = self._flipped(answer.body) if fault == "flip" and answer.body else answer.body
        whole = answer.encode(body)
        if fault not in ("reset", "cut", "stall"):
            writer.write(whole)
            await writer.drain()
            return True
        # From within the head to the last byte but one.
        writer.write(whole[: self._draw.randrange(1, len(whole))])
        await writer.drain()
        if fault == "reset":
            _reset(writer)
        elif fault == "stall":
            await asyncio.sleep(2)
        return False

    def _fault(self) -> str:
        return self._draw.choice(self._faults) if self._draw.random() < self._share else ""

    def _flipped(self, body: bytes) -> bytes:
        at = self._draw.randrange(len(body))
        return body[:at] + bytes([body[at] ^ (1 << self._draw.randrange(8))]) + body[at + 1 :]

    async def _forward(self, request: Message) -> Message:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._to, limit=2**20)
        alone = {**request.headers, b"connection": b"close"}
        try:
            writer.write(Message(request.first, alone, request.body).encode())
            await writer.drain()
            answer = await _read(reader, bodiless=request.first.split()[0] in _BODILESS)
        finally:
            writer.close()
        kept = {name: value for name, value in answer.headers.items() if name != b"connection"}
        return Message(answer.first, kept, answer.body)


@contextmanager
def faults_before(
    port: int, *, seed: int, share: float, faults: tuple[str, ...] = FAULTS
) -> Generator[FaultProxy]:
    """Stand before a server of loopback until the block ends."""
    proxy = FaultProxy(port, seed=seed, share=share, faults=faults)
    started = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(started)))
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()


async def _read(reader: asyncio.StreamReader, *, bodiless: bool = False) -> Message:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.pop(b"transfer-encoding", b"").lower() == b"chunked":
        body = await _read_chunks(reader)
        headers[b"content-length"] = str(len(body)).encode()
    else:
        size = 0 if bodiless else int(headers.get(b"content-length", b"0"))
        body = await reader.readexactly(size)
    return Message(first, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
