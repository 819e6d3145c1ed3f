"""A bucket that lies in another region than was said is found by what S3 answers."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import pytest

from chipmill.errors import StoreError
from chipmill.io import s3
from chipmill.io.source import open_source
from chipmill.model.access import Access
from chipmill.settings import BucketSettings

DATA = bytes(range(256)) * 1000


class FarServer(ThreadingHTTPServer):
    """Has one bucket in eu-west-1, and tells so who signs for another region, as S3 does."""

    def __init__(self) -> None:
        """Listen on loopback."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.signed_for: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        region = self.headers["Authorization"].split("/")[2]
        cast("FarServer", self.server).signed_for.append(region)
        if region != "eu-west-1":
            body = b"<Error><Code>AuthorizationHeaderMalformed</Code></Error>"
            self.send_response(400)
            if "told" in self.path:
                self.send_header("x-amz-bucket-region", "eu-west-1")
        else:
            body = DATA
            self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def far() -> Iterator[FarServer]:
    """Serve meanwhile."""
    with FarServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def access(far: FarServer, monkeypatch: pytest.MonkeyPatch) -> Access:
    """Give rules that say a wrong region."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    own = BucketSettings(endpoint=f"http://127.0.0.1:{far.server_port}", region="us-east-1")
    return Access(buckets=("far",), stores=(("far", own),))


def test_another_region_is_asked_once_and_kept(far: FarServer, access: Access) -> None:
    """The team need not know where each provider's bucket is."""
    for _ in range(2):
        with open_source("s3://far/told.tif", access) as source:
            assert b"".join(source.pieces) == DATA
    assert far.signed_for == ["us-east-1", "eu-west-1", "eu-west-1"]


def test_what_is_refused_without_a_region_stays_refused(far: FarServer, access: Access) -> None:
    """There is nowhere else to ask."""
    with pytest.raises(StoreError, match=r"AuthorizationHeaderMalformed.*access rights"):
        s3.get("s3://far/quiet.tif", access).__enter__()
    assert far.signed_for == ["us-east-1"]
