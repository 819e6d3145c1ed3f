"""A line to a server on loopback that counts what passes: `/proc` counts no bytes of sockets."""

import socket
import socketserver
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress


class Line(socketserver.ThreadingTCPServer):
    """Passes connections on to a port of loopback."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, to: int) -> None:
        """Listen on a free port of loopback."""
        super().__init__(("127.0.0.1", 0), _Passed)
        self.to = to
        self.bytes = 0
        """In both directions, headers included."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Passed(socketserver.BaseRequestHandler):
    server: Line  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle(self) -> None:
        """Pass bytes on until one side ends."""
        with socket.create_connection(("127.0.0.1", self.server.to)) as other:
            back = threading.Thread(target=self._pass, args=(other, self.request), daemon=True)
            back.start()
            self._pass(self.request, other)
            back.join()

    def _pass(self, given: socket.socket, taken: socket.socket) -> None:
        with suppress(OSError):
            while data := given.recv(2**16):
                self.server.bytes += len(data)
                taken.sendall(data)
        with suppress(OSError):
            taken.shutdown(socket.SHUT_WR)


@contextmanager
def counted(port: int) -> Generator[Line]:
    """Count what passes to a port of loopback until the block ends."""
    with Line(port) as line:
        thread = threading.Thread(target=line.serve_forever, daemon=True)
        thread.start()
        try:
            yield line
        finally:
            line.shutdown()
