"""Eight writers at once, lost answers, refusals and kills: no part lost, none twice, one line."""

import http.client
import random
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, pairwise
from pathlib import Path
from threading import Barrier
from typing import cast
from urllib.parse import urlsplit

import pytest

from chipmill.errors import StoreError
from chipmill.formats.chip_index import IndexedScene
from chipmill.formats.snapshot import Snapshot, snapshot_name
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.steps.history import history, load_snapshot
from chipmill.steps.merge import merge_index
from chipmill.steps.turn import turns

PutPart = Callable[..., IndexedScene]
SCRIPT = Path(__file__).with_name("merge_worker.py")
SIZE = 16
WRITERS, EACH, KILLS = 8, 2, 4
FAULTS = {"none": 65, "lost": 12, "dropped": 5, "409": 8, "412": 5, "503": 5}
"""Percent of the writes; of `lost` the write happens and the answer does not come."""


class Proxy(ThreadingHTTPServer):
    """Passes requests on to an S3 server; every write meets a fault by chance."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        """Listen on a free port of loopback."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.chance = random.Random(7)  # noqa: S311  a seed, not a secret
        self.met: Counter[str] = Counter()

    def fault(self, *, conditional: bool) -> str:
        """Draw what happens to a write."""
        (drawn,) = self.chance.choices(list(FAULTS), list(FAULTS.values()))
        if drawn in {"409", "412"} and not conditional:
            drawn = "none"
        self.met[drawn] += 1
        return drawn

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = "none"
        if self.command == "PUT":
            proxy = cast("Proxy", self.server)
            fault = proxy.fault(conditional="If-None-Match" in self.headers)
        if fault in {"409", "412", "503"}:
            self._answer(int(fault), {}, b"<Error><Code>Injected</Code></Error>")
        elif fault == "dropped":
            self._reset()
        else:
            self._forward(body, lost=fault == "lost")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815  the names of the class

    def _forward(self, body: bytes, *, lost: bool) -> None:
        where = cast("Proxy", self.server).upstream
        upstream = http.client.HTTPConnection(where, timeout=60)
        # The host is signed: it stays the one that the client has asked.
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        if lost:
            self._reset()
        else:
            self._answer(answer.status, dict(answer.getheaders()), data)

    def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response_only(status)
        hop = {"connection", "transfer-encoding", "content-length"}
        for name, value in headers.items():
            if name.lower() not in hop:
                self.send_header(name, value)
        size = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()


@pytest.fixture
def proxy(s3_server: str) -> Iterator[Proxy]:
    """Give a proxy before the S3 server."""
    with Proxy(s3_server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_no_part_is_lost_and_none_is_there_twice(
    s3_archive: Store,
    proxy: Proxy,
    put_part: PutPart,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each writer brings parts and merges, is killed and begins again; the wire loses answers."""
    archive = s3_archive
    archive.put("begun", b"")
    source = Store.open((tmp_path / "source").as_uri())
    items = [f"scene-{n}" for n in range(WRITERS * EACH)]
    digests = [put_part(source, item).digest for item in items]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
    acknowledged = _crowd(archive, source, items, tmp_path)

    assert proxy.met["lost"] > 0
    steps = history(archive, SIZE)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    held = {step.number: _items(archive, step) for step in steps}
    for before, after in pairwise(held.values()):
        assert set(before) < set(after)
    assert sorted(item for item, _ in acknowledged) == sorted(items)
    assert all(held[number][item] == 1 for item, number in acknowledged)
    assert held[len(steps)] == Counter(items)
    assert steps[-1].snapshot == snapshot_name(SIZE, digests)
    assert merge_index(source, chip_size=SIZE).snapshot == steps[-1].snapshot
    assert load_snapshot(archive, "latest", chip_size=SIZE) == steps[-1]
    assert [load_snapshot(archive, step.snapshot) for step in steps] == steps


def _crowd(archive: Store, source: Store, items: list[str], folder: Path) -> list[tuple[str, int]]:
    """Run all writers to their end, killing some; gives what which step has acknowledged."""
    logs = [folder / f"{number}.log" for number in range(WRITERS)]
    for log in logs:
        log.touch()

    def start(number: int) -> "subprocess.Popen[bytes]":
        mine = items[number * EACH : (number + 1) * EACH]
        command = [sys.executable, str(SCRIPT), archive.url, source.url, str(logs[number]), *mine]
        return subprocess.Popen(command, stderr=subprocess.PIPE)

    workers = [start(number) for number in range(WRITERS)]
    chance = random.Random(11)  # noqa: S311  a seed, not a secret
    for _ in range(KILLS):
        seen = _written(archive)
        while _written(archive) == seen and any(worker.poll() is None for worker in workers):
            time.sleep(0.02)  # until somebody has written something more
        number = chance.randrange(WRITERS)
        workers[number].kill()
        workers[number].communicate()
        workers[number] = start(number)
    for worker in workers:
        _, said = worker.communicate(timeout=300)
        assert worker.returncode == 0, said.decode()[-2000:]
    lines = [line.split() for log in logs for line in log.read_text().splitlines()]
    return [(item, int(number)) for item, number in lines]


def _written(archive: Store) -> int:
    return len(list(archive.keys("index/")))


def _items(archive: Store, snapshot: Snapshot) -> "Counter[str]":
    """Count the scenes of a snapshot, by their chips and by their own table."""
    listed = read_columns(archive, snapshot.scene_files, ["item", "scene"])
    chips = read_columns(archive, snapshot.chip_files, ["chip_id"])["chip_id"].to_pylist()
    assert len(set(chips)) == len(chips) == 6 * snapshot.scenes
    return Counter(str(item) for item in listed["item"].to_pylist())


@pytest.fixture
def careless_archive(
    binaries: Path, free_port: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """Give an archive on `rclone serve s3`, which overwrites whatever the condition says."""
    port, key = free_port(), secrets.token_hex(8)
    (tmp_path / "rclone" / "bucket").mkdir(parents=True)
    command = [str(binaries / "rclone"), "serve", "s3", f"--addr=127.0.0.1:{port}"]
    command += [f"--auth-key=chipmill,{key}", "--config=", str(tmp_path / "rclone")]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "chipmill")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)
    with subprocess.Popen(command, stderr=subprocess.PIPE) as server:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Store.open("s3://bucket/archive")
        server.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def test_a_store_that_lets_two_create_one_object(
    careless_archive: Store, put_part: PutPart, tmp_path: Path
) -> None:
    """Without a lock it is refused; with the ledger's, merges take turns and lose nothing."""
    archive = careless_archive
    put_part(archive, "a")
    with pytest.raises(StoreError, match="two writers create one object"):
        merge_index(archive, chip_size=SIZE)
    assert list(archive.keys("index/heads/")) == list(archive.keys("index/probe/")) == []
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    start = Barrier(4)

    def bring(items: str) -> list[tuple[str, Snapshot]]:
        start.wait()
        merged: list[tuple[str, Snapshot]] = []
        for item in items:
            put_part(archive, item)
            lock = turns(lambda: Ledger.open(url))
            merged.append((item, merge_index(archive, chip_size=SIZE, lock=lock)))
        return merged

    with ThreadPoolExecutor(4) as pool:
        acknowledged = list(chain(*pool.map(bring, ["bcd", "efg", "hij", "klm"])))
    steps = history(archive, SIZE)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert _items(archive, steps[-1]) == Counter("abcdefghijklm")
    for item, snapshot in acknowledged:
        assert steps[snapshot.number - 1] == snapshot  # nobody has written over it
        assert _items(archive, snapshot)[item] == 1
