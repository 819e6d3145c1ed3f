"""The receiver, over real sockets, answers each row of the contract."""

import http.client
import json
import logging
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import hypothesis.strategies as st
import jsonschema
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from pydantic import SecretStr

from chipmill.errors import RequestError
from chipmill.formats.webhook import completion_id, encode_key, headers, sign
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State, megabatch_id
from chipmill.service.keys import run_key
from chipmill.service.reading import MOST_READING
from chipmill.service.receiver import AT_ONCE, create_app
from chipmill.service.serve import master_keys, serve
from chipmill.settings import Settings

PLAN = "0123456789abcdef"
FIRST, SECOND = megabatch_id(PLAN, 0), megabatch_id(PLAN, 1)
MASTER, PREVIOUS, STRANGER = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))
COMPLETE = "/v1/megabatch-complete"
Serving = Callable[[FastAPI], AbstractContextManager[str]]


@dataclass
class World:
    """A receiver with a run of two ranks on a plan whose first megabatch is in use."""

    url: str
    ledger: Ledger
    database: Path
    client: httpx.Client = field(
        default_factory=lambda: httpx.Client(timeout=60, limits=httpx.Limits(max_connections=200))
    )

    def post(
        self,
        body: bytes,
        *,
        path: str = COMPLETE,
        key: bytes = b"",
        run: str = "run",
        message_id: str = "m-1",
        age: int = 0,
        other: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Post a body with good headers, but for those given otherwise."""
        found = headers(
            key or run_key(MASTER, run),
            run=run,
            message_id=message_id,
            timestamp=int(time.time()) - age,
            body=body,
        )
        return self.client.post(self.url + path, content=body, headers=found | (other or {}))

    def history(self) -> int:
        """Count the changes of all megabatches."""
        return sum(row.version for row in self.ledger.megabatches())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, serving: Serving) -> Iterator[World]:
    """Serve one ledger for all tests; each uses message ids or megabatches of its own."""
    database = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with Ledger.open(f"sqlite:///{database}", patience=0.5) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10, 10])
        ledger.begin_run("run", attempt=2, world=2, plan=PLAN)
        fence = ledger.claim_staging(FIRST, budget=100, worker="w")
        ledger.ready(FIRST, fence, size=10)
        with serving(create_app(ledger, [MASTER, PREVIOUS])) as url:
            world = World(url, ledger, database)
            yield world
            world.client.close()


def completed(**other: object) -> bytes:
    """Write the body of a completion, good but for what is given otherwise."""
    data = {"megabatch": FIRST, "run": "run", "attempt": 2, "rank": 0, "world": 2, "epoch": 0}
    data |= {"minibatches": 7, "checkpoint": None} | other
    message = {"type": "megabatch.completed", "timestamp": "2026-01-01T00:00:00Z", "data": data}
    return json.dumps(message).encode()


def begun(**other: object) -> bytes:
    """Write the body of a begin, good but for what is given otherwise."""
    data = {"run": "run", "attempt": 2, "world": 2, "plan": PLAN} | other
    message = {"type": "run.begun", "timestamp": "2026-01-01T00:00:00Z", "data": data}
    return json.dumps(message).encode()


def test_a_run_from_begin_to_complete(tmp_path: Path, serving: Serving) -> None:
    """The honest way, with two ranks, retries and a late repetition."""
    with Ledger.open(f"sqlite:///{tmp_path / 'l.db'}") as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10, 10])
        for name in (FIRST, SECOND):
            fence = ledger.claim_staging(name, budget=100, worker="w")
            ledger.ready(name, fence, size=10)
        with serving(create_app(ledger, [MASTER])) as url:
            world = World(url, ledger, tmp_path)
            first = world.post(begun(), path="/v1/runs", message_id="b")
            assert (first.status_code, first.json()) == (200, {"status": "begun"})
            assert world.post(begun(), path="/v1/runs", message_id="b").status_code == 200
            notes: list[str] = []
            for rank in (0, 0, 1, 0, 1):
                found = completion_id("run", 2, epoch=0, megabatch=FIRST, rank=rank)
                answer = world.post(completed(rank=rank), message_id=found)
                assert answer.status_code == 200
                notes.append(answer.json()["status"])
            assert notes == ["recorded", "recorded", "complete", "recorded", "complete"]
            states = [row.state for row in ledger.megabatches()]
            assert states == [State.COMPLETE, State.IN_USE]
            world.client.close()


def forgeries(world: World) -> dict[str, httpx.Response]:
    """Post everything that only looks signed."""
    body = completed(rank=1)
    good = headers(
        run_key(MASTER, "run"), run="run", message_id="f", timestamp=int(time.time()), body=body
    )
    twice = [*good.items(), ("Webhook-Signature", good["webhook-signature"])]
    post = world.client.post
    answers = {
        "stranger's master": world.post(body, key=run_key(STRANGER, "run")),
        "master itself": world.post(body, key=MASTER),
        "key of another run": world.post(body, key=run_key(MASTER, "run2")),
        "own key, other run's data": world.post(body, run="run2"),
        "old": world.post(body, age=301),
        "from the future": world.post(body, age=-302),
        "tampered body": post(world.url + COMPLETE, content=body + b" ", headers=good),
        "header twice": post(world.url + COMPLETE, content=body, headers=twice),
        "no header": post(world.url + COMPLETE, content=body),
        "other id": world.post(body, other={"webhook-id": "g"}),
        "bad run": world.post(body, other={"chipmill-run": "../run"}),
        "bad signature": world.post(body, other={"webhook-signature": "v1,a,b v1 x"}),
    }
    for name in good:
        rest = {key: value for key, value in good.items() if key != name}
        answers[f"without {name}"] = post(world.url + COMPLETE, content=body, headers=rest)
    return answers


def test_forgeries_all_get_the_same_answer(world: World) -> None:
    """Which check failed is nobody's business but the operator's; the clock is everybody's."""
    before = world.history()
    for name, answer in forgeries(world).items():
        assert answer.status_code == 401, name
        assert answer.json() == {"status": "signature, run or timestamp is not valid"}, name
        assert "date" in answer.headers, name
    assert world.history() == before


def test_a_replay_gets_the_first_answer(world: World) -> None:
    """What was recorded by somebody on the wire does nothing a second time."""
    answers = [world.post(completed(), message_id="replay") for _ in range(3)]
    assert {(answer.status_code, answer.text) for answer in answers} == {
        (200, '{"status":"recorded"}')
    }
    other = world.post(completed(minibatches=8), message_id="replay")
    assert other.status_code == 409
    assert "another body" in other.json()["status"]


def test_the_master_of_before_is_still_accepted(world: World) -> None:
    """A rotation needs no moment at which all trainers change."""
    answer = world.post(completed(), key=run_key(PREVIOUS, "run"), message_id="rotation")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 15_000,
        b'{"type":' * 2_000,
        b"9" * 9_000,
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        completed().decode().encode("utf-16"),
        completed().replace(b'"rank": 0', b'"rank": NaN'),
        completed().replace(b'"rank": 0', b'"rank": -Infinity'),
        completed().replace(b'"run": "run"', b'"run": "\\ud800"'),
    ],
    ids=range(11),
)
def test_what_is_not_json_is_told_so(world: World, body: bytes) -> None:
    """A parser that crashes or reads more than JSON is a way in, also for a key's holder."""
    answer = world.post(body)
    assert (answer.status_code, answer.json()) == (400, {"status": "the body is not JSON"})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"null", "body"),
        (b"[]", "body"),
        (completed(rank=2), "data"),
        (completed(rank=True), "data.rank"),
        (completed(rank=1.0), "data.rank"),
        (completed(rank=10**30), "data.rank"),
        (completed(world=None), "data.world"),
        (completed(megabatch="../../etc"), "data.megabatch"),
        (completed(megabatch="m\u0000"), "data.megabatch"),
        (completed(run="run'; DROP TABLE megabatch;--"), "data.run"),
        (completed(more=1), "data.more"),
        (begun(), "type"),
    ],
)
def test_what_does_not_fit_names_the_field(world: World, body: bytes, where: str) -> None:
    """The sender is one of ours with a bug: the answer says where."""
    answer = world.post(body)
    assert answer.status_code == 422
    assert answer.json()["status"].startswith(f"{where}:")


@pytest.mark.parametrize(
    ("other", "status", "note"),
    [
        ({"megabatch": megabatch_id("f" * 16, 0)}, 404, "knows no megabatch"),
        ({"megabatch": SECOND}, 409, "planned, not in use"),
        ({"attempt": 1}, 409, "zombie"),
        ({"attempt": 3}, 409, "has not begun"),
        ({"world": 3}, 422, "began with 2"),
    ],
)
def test_what_the_ledger_refuses_has_its_status(
    world: World, other: dict[str, object], status: int, note: str
) -> None:
    """Each wrong report has the answer that lets the sender do the right thing."""
    before = world.history()
    answer = world.post(completed(**other), message_id="refused")
    assert answer.status_code == status
    assert note in answer.json()["status"]
    assert world.history() == before


@pytest.mark.parametrize(
    ("other", "status", "note"),
    [
        ({"plan": "f" * 16}, 404, "knows no plan"),
        ({"attempt": 1}, 409, "zombie"),
        ({"world": 3}, 409, "began with world 2"),
        ({"attempt": 0}, 422, "data.attempt"),
    ],
)
def test_a_begin_that_does_not_fit_is_refused(
    world: World, other: dict[str, object], status: int, note: str
) -> None:
    """A zombie or a typo in the plan is told at the start of training."""
    answer = world.post(begun(**other), path="/v1/runs")
    assert answer.status_code == status
    assert note in answer.json()["status"]


def test_a_large_body_is_refused_as_soon_as_it_is_known(world: World) -> None:
    """Declared or not, no more than 20 KiB are read, and the connection ends."""
    declared = world.client.post(world.url + COMPLETE, content=b"x" * (20 * 1024 + 1))
    streamed = world.client.post(world.url + COMPLETE, content=iter([b"x" * 4096] * 20))
    for answer in (declared, streamed):
        assert answer.status_code == 413
        assert answer.headers["connection"] == "close"
    edge = world.client.post(world.url + COMPLETE, content=b"x" * (20 * 1024))
    assert edge.status_code == 401


def test_tricklers_take_nobodys_place(world: World) -> None:
    """With all places taken the slowest reader is sent away, and the honest message gets in."""
    address = (httpx.URL(world.url).host, httpx.URL(world.url).port or 0)
    tricklers = [socket.create_connection(address) for _ in range(MOST_READING + 1)]
    for trickler in tricklers:
        trickler.sendall(b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    with tricklers[0].makefile("rb") as answer:
        assert answer.readline().startswith(b"HTTP/1.1 408")
    assert world.post(completed(), message_id="patient").status_code == 200
    assert world.client.get(world.url + "/healthz").status_code == 200
    for trickler in tricklers:
        with trickler, trickler.makefile("rb") as answer:
            first = answer.readline()
            assert trickler is tricklers[0] or first.startswith(b"HTTP/1.1 408")


def test_headers_must_come_in_time(world: World) -> None:
    """The HTTP server alone would wait for ever; on a new connection and on one that was used."""
    address = (httpx.URL(world.url).host, httpx.URL(world.url).port or 0)
    slow = [socket.create_connection(address, timeout=60) for _ in range(4)]
    for used in slow[2:]:
        used.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert used.recv(4096).startswith(b"HTTP/1.1 200")
    for half in slow[::2]:
        half.sendall(b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nX-A: a")
    for connection in slow:
        with connection, suppress(ConnectionResetError):
            while connection.recv(4096):
                pass


def test_too_many_messages_at_once_are_asked_to_come_again(world: World) -> None:
    """While the ledger is locked no more than `AT_ONCE` messages wait for it."""
    holder = sqlite3.connect(world.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    body = completed()

    def send(number: int) -> httpx.Response:
        return world.post(body, message_id=f"many-{number}")

    with ThreadPoolExecutor(2 * AT_ONCE) as pool:
        answers = list(pool.map(send, range(2 * AT_ONCE)))
    holder.execute("ROLLBACK")
    holder.close()
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    assert any("too many" in answer.json()["status"] for answer in answers)
    assert world.post(body, message_id="many-0").status_code == 200


def test_a_locked_ledger_is_a_reason_to_come_again(world: World) -> None:
    """The trainer keeps its report; nothing is lost, nothing is half done."""
    holder = sqlite3.connect(world.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    answer = world.post(completed(), message_id="locked")
    ready = world.client.get(world.url + "/readyz")
    holder.execute("ROLLBACK")
    holder.close()
    assert (answer.status_code, ready.status_code) == (503, 503)
    assert "retry-after" in answer.headers
    assert world.post(completed(), message_id="locked").status_code == 200
    assert world.client.get(world.url + "/readyz").json()["status"].startswith("ready")


def test_other_paths_and_methods_answer_in_the_same_form(world: World) -> None:
    """A client need not know two forms of an error."""
    missing = world.client.get(world.url + "/v1/nothing")
    assert (missing.status_code, missing.json()) == (404, {"status": "not found"})
    method = world.client.get(world.url + COMPLETE)
    assert (method.status_code, method.json()) == (405, {"status": "method not allowed"})


@given(
    body=st.binary(max_size=100),
    names=st.lists(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "chipmill-run"]),
        max_size=6,
    ),
    value=st.sampled_from(["run", "m-1", "v1,AAAA", "1e9", "", "NaN", "x" * 5000, "\xff", "now"]),
)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_strangers_change_nothing(world: World, body: bytes, names: list[str], value: str) -> None:
    """Whatever comes unsigned is refused: never taken, never a failure of ours."""
    before = world.history()
    text = str(int(time.time())) if value == "now" else value
    found = [(name.encode(), text.encode("latin-1")) for name in names]
    answer = world.client.post(world.url + COMPLETE, content=body, headers=found)
    assert answer.status_code == 401
    assert world.history() == before


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_signed_nonsense_is_refused(world: World, value: object) -> None:
    """A key's holder may send what it likes: it is JSON that is no message."""
    for body in (json.dumps(value).encode(), completed(rank=value, world=value)):
        assert world.post(body).status_code == 422


def test_nothing_secret_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A log is read by more people than a key."""
    caplog.set_level(logging.DEBUG)
    marked = completed(checkpoint="s3://secret-place")
    key = run_key(STRANGER, "run")
    signature = sign(key, message_id="m-1", timestamp=int(time.time()), body=marked)
    world.post(marked, key=key)
    world.post(marked[:-1], message_id="cut")
    texts = [record.getMessage() for record in caplog.records if record.name != "httpcore"]
    mine = [text for text in texts if "secret-place" in text or signature in text]
    assert mine == []
    assert any("401" in text for text in texts)


def test_the_document_says_what_the_receiver_does(world: World) -> None:
    """A client that is written from the OpenAPI document works."""
    document = world.client.get(world.url + "/openapi.json").json()
    for reference in re.findall(r'"#/([^"]+)"', json.dumps(document)):
        target = document
        for part in reference.split("/"):
            target = target[part]
        assert target["type"] == "object"
    for path, good in (("/v1/runs", begun()), (COMPLETE, completed())):
        post = document["paths"][path]["post"]
        reference = post["requestBody"]["content"]["application/json"]["schema"]
        schema = {**reference, "components": document["components"]}
        jsonschema.validate(json.loads(good), schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"type": "x"}, schema)
        names = {parameter["name"] for parameter in post["parameters"]}
        assert names == set(headers(MASTER, run="r", message_id="m", timestamp=0, body=b""))
        assert set(post["responses"]) == {
            str(status) for status in (200, 400, 401, 404, 408, 409, 413, 422, 425, 503)
        }


def test_run_keys_are_apart() -> None:
    """A leaked key of one run says nothing of another's or of the master."""
    one, two = run_key(MASTER, "run"), run_key(MASTER, "run2")
    assert len({one, two, MASTER, run_key(PREVIOUS, "run")}) == 4
    assert len(one) == 32
    assert run_key(MASTER, "run") == one


def test_a_receiver_without_a_usable_secret_does_not_start(tmp_path: Path) -> None:
    """An open receiver would let anyone free anyone's data."""
    ledger = f"sqlite:///{tmp_path / 'l.db'}"
    with pytest.raises(RequestError, match="chipmill secret"):
        serve(Settings(ledger=ledger, webhook_master=None))
    with pytest.raises(RequestError, match="at least 24"):
        master_keys(Settings(webhook_master=SecretStr("whsec_AAAA")))
    both = Settings(
        webhook_master=SecretStr(encode_key(MASTER)),
        webhook_master_previous=SecretStr(encode_key(PREVIOUS)),
    )
    assert master_keys(both) == [MASTER, PREVIOUS]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RequestError, match=f"cannot listen on 127.0.0.1 port {port}"):
            serve(both, port=port)


PROCESS = """
import logging, sys
from chipmill.service.serve import serve
from chipmill.settings import Settings
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
serve(Settings.load(), port=0)
"""


def test_the_process_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """Started as an operator does: it says where it listens, answers, and ends cleanly."""
    environment = {
        "PATH": os.defpath,
        "CHIPMILL_LEDGER": f"sqlite:///{tmp_path / 'l.db'}",
        "CHIPMILL_WEBHOOK_MASTER": encode_key(MASTER),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process, process.stderr as log:
        line = next(line for line in log if "listens on 127.0.0.1 port" in line)
        connection = http.client.HTTPConnection("127.0.0.1", int(line.split()[-1]), timeout=10)
        for path in ("/healthz", "/readyz"):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("server")) == (200, None)
            answer.read()
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in log.read()
    assert process.returncode in (0, -signal.SIGTERM)
