"""A provider on loopback that answers ranges, states checksums, and counts what it is asked."""

import hashlib
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class RangedServer(ThreadingHTTPServer):
    """Serves a folder."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        """Serve a folder, at a port of its own choice."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.ranges: list[tuple[str, int]] = []
        """Names and first bytes of what was asked for from a later byte on."""
        self.sent: Counter[str] = Counter()
        """Bytes of each file."""
        self.break_after: dict[str, int] = {}
        """Bytes after which the next answer for a file breaks."""
        self.digests = True
        """Whether answers state a SHA-256 (RFC 9530)."""
        self.redirects: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: RangedServer  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a file, or the end of it."""
        name = self.path.split("?")[0].lstrip("/")
        self.server.asked[name] += 1
        if name in self.server.redirects:
            return self._say(302, {"Location": self.server.redirects[name]}, b"")
        path = self.server.folder / name
        if not path.is_file():
            return self._say(404, {}, b"")
        body = path.read_bytes()
        digest = hashlib.sha256(body)
        headers = {"ETag": f'"v-{digest.hexdigest()[:12]}"', "Accept-Ranges": "bytes"}
        if self.server.digests:
            headers["Repr-Digest"] = f"sha-256=:{b64encode(digest.digest()).decode()}:"
        start = self._start(headers["ETag"])
        if start:
            self.server.ranges.append((name, start))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return self._say(206 if start else 200, headers, body[start:])

    def _start(self, etag: str) -> int:
        asked = self.headers.get("Range", "bytes=0-")
        same = self.headers.get("If-Range", etag) == etag
        return int(asked.removeprefix("bytes=").rstrip("-")) if same else 0

    def _say(self, code: int, headers: dict[str, str], body: bytes) -> None:
        name = self.path.split("?")[0].lstrip("/")
        self.send_response(code)
        for each in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(*each)
        self.end_headers()
        stop = self.server.break_after.pop(name, None) if body else None
        self.server.sent[name] += len(body[:stop])
        self.wfile.write(body[:stop])
        if stop is not None:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Generator[RangedServer]:
    """Serve a folder until the block ends."""
    with RangedServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
