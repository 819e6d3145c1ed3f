"""Where files come from: resumed, signed, redirected, and never from where they must not."""

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import stamina
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chipmill.errors import ChipmillError, StoreError, TransientError
from chipmill.formats import layout
from chipmill.io.records import read_records
from chipmill.io.source import again, open_source
from chipmill.io.store import Store
from chipmill.io.throttle import Throttle
from chipmill.model.access import Access
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
from tests.archive.ranged_server import RangedServer, serving

Draw = Callable[..., Path]
S2 = "sentinel-2-l2a"
HERE = Access(private=("127.0.0.1",), patience=5)


@pytest.fixture(autouse=True)
def _hurry() -> Iterator[None]:
    """Let retries happen, three tries, without the seconds between them."""
    with stamina.set_testing(testing=True, attempts=3):
        yield


@pytest.fixture
def provider(tmp_path: Path, draw: Draw) -> Iterator[RangedServer]:
    """Serve the files of a scene with one band."""
    pixels = np.random.default_rng(3).integers(1, 9000, (200, 200)).astype(np.uint16)
    layers = {"red": (pixels, 10.0, 0.0), "scl": (np.full((100, 100), 4, np.uint8), 20.0, None)}
    with serving(draw(tmp_path / "provider", layers).parent) as server:
        yield server


def kept(archive: Store, folder: Path, name: str, href: str, **fields: object) -> SceneRef:
    """Keep a catalogue's document whose band is at an href."""
    item = json.loads((folder / "drawn.json").read_text())
    item["id"] = name
    for key, asset in item["assets"].items():
        asset.update({"href": href.format(key=key), **fields})
    archive.put(layout.source_item_key(S2, name), json.dumps(item).encode())
    return SceneRef(collection=S2, item=name)


def test_a_broken_answer_is_taken_up_where_it_broke(provider: RangedServer) -> None:
    """A file of gigabytes over a bad line would never arrive otherwise."""
    path = provider.folder / "drawn-red.tif"
    provider.break_after["drawn-red.tif"] = 50_000
    with open_source(f"{provider.url}/drawn-red.tif", HERE) as source:
        assert b"".join(source.pieces) == path.read_bytes()
    ((name, start),) = provider.ranges
    assert (name, start > 0) == ("drawn-red.tif", True)
    assert provider.sent["drawn-red.tif"] == 50_000 + path.stat().st_size - start


def test_a_file_that_changed_is_not_taken_up(provider: RangedServer) -> None:
    """Half of the old file and half of the new one has the right length and is wrong."""
    path = provider.folder / "drawn-red.tif"
    provider.break_after["drawn-red.tif"] = 50_000
    with open_source(f"{provider.url}/drawn-red.tif", HERE) as source:
        first = next(source.pieces)
        path.write_bytes(path.read_bytes()[::-1])
        with pytest.raises(TransientError, match="another file than before"):
            b"".join([first, *source.pieces])


def test_a_server_says_when_to_come_back() -> None:
    """`Retry-After` wins over our own pauses; stamina gets it as the seconds to wait."""
    assert again(TransientError("busy", after=7.0)) == 7.0
    assert again(TransientError("busy")) is True
    assert again(StoreError("no")) is False


class TokenServer(ThreadingHTTPServer):
    """The Planetary Computer on loopback: gives tokens, and files to who has a good one."""

    def __init__(self, folder: Path) -> None:
        """Serve a folder as one container."""
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.folder = folder
        self.given = 0
        self.good = 0
        """Number of the first token that is good."""
        self.life = timedelta(minutes=45)
        self.asked: list[str] = []

    @property
    def place(self) -> str:
        """Where it listens, as the signers' setting has it."""
        return f"127.0.0.1:{self.server_port}"


class _TokenHandler(BaseHTTPRequestHandler):
    server: TokenServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """Answer with a token, or with a file."""
        self.server.asked.append(self.path)
        parts = urlsplit(self.path)
        if parts.path.startswith("/token/"):
            self.server.given += 1
            until = (datetime.now(UTC) + self.server.life).isoformat()
            token = f"se=x&sig=SECRET{self.server.given}"
            return self._say(200, json.dumps({"msft:expiry": until, "token": token}).encode())
        sig = parse_qs(parts.query).get("sig", ["SECRET0"])[0]
        if int(sig.removeprefix("SECRET")) < max(self.server.good, 1):
            return self._say(403, b"")
        return self._say(200, (self.server.folder / Path(parts.path).name).read_bytes())

    def _say(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def signed(provider: RangedServer) -> Iterator[TokenServer]:
    """Serve the scene's files to who has a token."""
    with TokenServer(provider.folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def signing(server: TokenServer, *, patience: float = 5) -> Access:
    """Give rules under which the server's files are signed."""
    template = f"http://{server.place}/token/{{account}}/{{container}}"
    return Access(private=("127.0.0.1",), signers=((server.place, template),), patience=patience)


def test_a_token_is_taken_once_and_renewed(
    archive: Store,
    provider: RangedServer,
    signed: TokenServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One token for all files of a container; a new one when it is refused or about to run out."""
    caplog.set_level(logging.DEBUG)
    access = signing(signed)
    href = f"http://{signed.place}/container/drawn-{{key}}.tif"
    for name, tokens in (("one", 1), ("two", 1), ("refused", 2)):
        signed.good = tokens
        scene = kept(archive, provider.folder, name, href)
        assert copy_assets(scene, archive, bands=("red",), access=access).copied == 2
        assert signed.given == tokens
    assert [path for path in signed.asked if "/token/" in path] == ["/token/127/container"] * 2
    signed.life = timedelta(seconds=-1)
    short = signing(signed, patience=4)
    for count in (3, 4):
        with open_source(href.format(key="red"), short) as source:
            assert next(source.pieces)
        assert signed.given == count
    assert "SECRET" not in caplog.text
    assert all(b"SECRET" not in archive.get(key) for key in archive.keys(""))


def test_what_no_token_opens_is_refused_without_showing_it(
    archive: Store, provider: RangedServer, signed: TokenServer
) -> None:
    """The message goes to logs, findings and the Prefect server."""
    signed.good = 1000
    scene = kept(archive, provider.folder, "no", f"http://{signed.place}/container/{{key}}")
    with pytest.raises(StoreError, match="answered 403") as raised:
        copy_assets(scene, archive, bands=("red",), access=signing(signed))
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("kind", ["address", "name", "file", "port"])
def test_a_redirect_leads_nowhere_that_is_not_allowed(
    provider: RangedServer, tmp_path: Path, kind: str
) -> None:
    """A public file that points to the inside is the oldest trick there is."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "secret").write_bytes(b"inside")
    with serving(tmp_path / "inside") as inside:
        targets = {
            "address": f"http://[::ffff:127.0.0.1]:{inside.server_port}/secret",
            "name": f"http://localhost:{inside.server_port}/secret",
            "file": (tmp_path / "inside" / "secret").as_uri(),
            "port": f"ftp://127.0.0.1:{inside.server_port}/secret",
        }
        provider.redirects["drawn-red.tif"] = targets[kind]
        # The provider may be reached since it is named; what it points to is not.
        rules = Access(private=("provider.localhost", "127.0.0.1/32"), hosts=("127.0.0.1",))
        with (
            pytest.raises(ChipmillError),
            open_source(f"{provider.url}/drawn-red.tif", rules) as source,
        ):
            next(source.pieces)
        assert not inside.asked


def test_a_name_is_resolved_once(provider: RangedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server of an attacker answers with a good address first and a bad one then."""
    answers = ["127.0.0.1", "127.0.0.2", "127.0.0.2"]
    resolve = socket.getaddrinfo

    def rebinding(host: str, *rest: Any, **more: Any) -> Any:  # noqa: ANN401
        return resolve(answers.pop(0) if host == "files.example.org" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    href = f"http://files.example.org:{provider.server_port}/drawn-red.tif"
    with open_source(href, Access(private=("127.0.0.1",))) as source:
        assert b"".join(source.pieces) == (provider.folder / "drawn-red.tif").read_bytes()
    assert len(answers) == 2
    with (
        pytest.raises(StoreError, match=r"private address 127\.0\.0\.2"),
        open_source(href, Access(private=("127.0.0.1",))),
    ):
        pass


hostile = st.one_of(
    st.sampled_from(
        [
            "http://127.0.0.1:{port}/x",
            "http://localhost:{port}/x",
            "http://0x7f.1:{port}/x",
            "http://2130706433:{port}/x",
            "http://127.1:{port}/x",
            "http://[::1]:{port}/x",
            "http://[::ffff:7f00:1]:{port}/x",
            "http://0:{port}/x",
            "http://user:SECRET@127.0.0.1:{port}/x?sig=SECRET",
            "http://127.0.0.1:{port}/x?X-Amz-Signature=SECRET",
            "https://127.0.0.1:{port}/x",
            "s3://127.0.0.1:{port}/x",
            "file:///etc/passwd",
            "file://127.0.0.1:{port}/x",
            "/vsicurl/http://127.0.0.1:{port}/x",
            "ftp://127.0.0.1:{port}/x",
            "//127.0.0.1:{port}/x",
            "http://127.0.0.1:{port}\\@example.invalid/x",
        ]
    ),
    st.text(max_size=30),
)


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(href=hostile, name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_hostile_items_reach_and_write_nothing(
    archive: Store, provider: RangedServer, href: str, name: str
) -> None:
    """No href reaches this machine's own servers and files, and no id leads a write out."""
    before = list(archive.keys("assets"))
    href = href.replace("{port}", str(provider.server_port)).replace("{", "").replace("}", "")
    with contextlib.suppress(ChipmillError):
        scene = kept(archive, provider.folder, name, href)
        copy_assets(scene, archive, bands=("red",), access=Access(patience=1))
    assert not provider.asked
    assert list(archive.keys("assets")) == before == []
    root = archive.local_path("")
    assert root
    allowed = {"archive", "provider"}
    assert {path.name for path in root.parent.iterdir()} <= allowed


def test_an_alternate_is_read_where_the_first_place_fails(
    archive: Store, provider: RangedServer
) -> None:
    """Catalogues name several places so that one may be down."""
    good = (provider.folder / "drawn-red.tif").as_uri()
    gone = f"{provider.url}/gone-{{key}}.tif"
    scene = kept(archive, provider.folder, "two", gone, alternate={"disk": {"href": good}})
    access = Access(private=("127.0.0.1",), files=True)
    assert copy_assets(scene, archive, bands=("red",), access=access).copied == 2
    assert read_records(scene, archive)["red"].source == good
    assert copy_assets(scene, archive, bands=("red",), access=access).skipped == 2


def test_bytes_pass_at_the_rate_that_is_set() -> None:
    """All copies of a process share one line: the waits add up to the bytes over the rate."""
    line = Throttle(10_000_000)
    pieces = [bytes(100_000)] * 5
    begun = threading.Barrier(3)

    def pull() -> None:
        begun.wait()
        assert list(line.of(pieces)) == pieces

    threads = [threading.Thread(target=pull) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait()
    start = datetime.now(UTC)
    for thread in threads:
        thread.join()
    # Ten pieces of 10 ms each; sleeping longer than that is no fault.
    assert datetime.now(UTC) - start >= timedelta(milliseconds=90)
