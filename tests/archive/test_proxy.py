"""Networks where the way out is a proxy: it is used, and does not lead to what is forbidden."""

import select
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import httpx
import pytest
import stamina
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chipmill.errors import ChipmillError, StoreError, TransientError
from chipmill.io.documents import Documents
from chipmill.io.source import open_source
from chipmill.model.access import Access

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
BODY = b'{"type": "FeatureCollection", "features": []}'
FAR = "files.example.test"
HERE = Access(patience=5)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without a proxy, and try everything once."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with stamina.set_testing(testing=True, attempts=1):
        yield


class Proxy(ThreadingHTTPServer):
    """A proxy on loopback that knows the names of `example.test`, as no name server does."""

    def __init__(self, target: int, refusal: int | None = None) -> None:
        """Lead everything to one port of loopback, or refuse all."""
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target, self.refusal = target, refusal
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Forward(BaseHTTPRequestHandler):
    server: Proxy  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path} {self.headers['host']}")
        if self.server.refusal:
            return self.send_error(self.server.refusal)
        given = httpx.get(
            f"http://127.0.0.1:{self.server.target}{urlsplit(self.path).path}", trust_env=False
        )
        self.send_response(given.status_code)
        self.send_header("content-length", str(len(given.content)))
        self.end_headers()
        self.wfile.write(given.content)
        return None

    def do_CONNECT(self) -> None:
        self.server.asked.append(f"CONNECT {self.path}")
        if self.server.refusal:
            return self.send_error(self.server.refusal)
        with socket.create_connection(("127.0.0.1", self.server.target)) as far:
            self.send_response(200)
            self.end_headers()
            pair = {self.connection: far, far: self.connection}
            while ready := select.select(list(pair), [], [], 5)[0]:
                for end in ready:
                    if not (data := end.recv(65536)):
                        return None
                    pair[end].sendall(data)
        return None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def certified(folder: Path) -> None:
    """Write a certificate that speaks for the far host by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, FAR)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(FAR)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, plain))


def running(server: ThreadingHTTPServer) -> Iterator[ThreadingHTTPServer]:
    """Let a server run."""
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["http", "https"])
def files(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, int]]:
    """Serve files that only a proxy leads to; gives scheme and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    if request.param == "https":
        certified(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    for _ in running(server):
        yield request.param, server.server_port


@pytest.fixture
def proxy(files: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Set a proxy that leads to the files."""
    server = Proxy(files[1])
    for _ in running(server):
        monkeypatch.setenv("HTTP_PROXY", server.url)
        monkeypatch.setenv("https_proxy", server.url.removeprefix("http://"))
        yield server


def read(url: str, access: Access = HERE) -> bytes:
    """Read a file as copies do."""
    with open_source(url, access) as source:
        return b"".join(source.pieces)


def test_files_and_documents_come_by_the_proxy(files: tuple[str, int], proxy: Proxy) -> None:
    """Where no name can be resolved and no address be reached, all goes by the proxy."""
    url = f"{files[0]}://{FAR}/x.json"
    fresh = Access(patience=5 + len(files[0]))  # a client of its own, with this certificate
    assert read(url, fresh) == BODY
    with Documents(url, access=fresh) as documents:
        assert documents.read(url) == BODY
    asked = {"http": f"GET {url} {FAR}", "https": f"CONNECT {FAR}:443"}[files[0]]
    assert proxy.asked == [asked, asked]


def test_what_is_set_against_the_proxy_goes_directly(
    files: tuple[str, int], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those the name is resolved and the address checked here, as without a proxy."""
    url = f"{files[0]}://{FAR}/x.json"
    for none in ("example.test", ".example.test", FAR, "other.test, example.test", "*"):
        monkeypatch.setenv("NO_PROXY", none)
        with pytest.raises(TransientError, match="has no address"):
            read(url)
    with pytest.raises(StoreError, match=r"private address 127.0.0.1"):
        read(f"{files[0]}://127.0.0.1:{files[1]}/x.json")
    assert proxy.asked == []
    if files[0] == "http":
        here = Access(private=("127.0.0.1",), patience=5)
        assert read(f"http://127.0.0.1:{files[1]}/x.json", here) == BODY


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]", "2130706433"]
)
def test_private_addresses_in_figures_are_refused(
    files: tuple[str, int], proxy: Proxy, host: str
) -> None:
    """A catalogue that names the cloud's metadata server gets nowhere, by no proxy either."""
    with pytest.raises(StoreError, match="has the private address"):
        read(f"{files[0]}://{host}/latest/meta-data")
    assert proxy.asked == []


def test_the_rules_of_hosts_hold(files: tuple[str, int], proxy: Proxy) -> None:
    """What the settings allow is looked at before the proxy is asked."""
    with pytest.raises(StoreError, match="CHIPMILL_SOURCE_HOSTS"):
        read(f"{files[0]}://{FAR}/x.json", Access(hosts=("allowed.test",)))
    assert proxy.asked == []


@pytest.mark.parametrize("proxy_url", ["ftp://example.test", "socks4://secret:pw@example.test:1"])
def test_a_proxy_of_another_kind_is_refused(
    monkeypatch: pytest.MonkeyPatch, proxy_url: str
) -> None:
    """A sentence tells what is read, and no password."""
    monkeypatch.setenv("ALL_PROXY", proxy_url)
    with pytest.raises(StoreError, match=r"the proxy example.test.* cannot be used") as raised:
        read(f"https://{FAR}/x.json")
    assert "pw" not in str(raised.value)


def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads the log must see that it is not the provider who said no."""
    server = Proxy(0, refusal=403)
    for _ in running(server):
        monkeypatch.setenv("HTTPS_PROXY", server.url.replace("//", "//me:pw@"))
        with pytest.raises(ChipmillError, match=r"by the proxy 127.0.0.1:.*403") as raised:
            read(f"https://{FAR}/x.json")
        assert "pw" not in str(raised.value)
