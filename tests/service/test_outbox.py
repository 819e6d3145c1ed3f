"""The outbox reaches a real Prefect server, once for each key, also after it was away."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from chipmill.formats.webhook import headers
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import megabatch_id
from chipmill.service.keys import run_key
from chipmill.service.outbox import Sender
from chipmill.service.receiver import create_app

MASTER = bytes(range(32))
COMPLETED = (
    '{{"type":"megabatch.completed","timestamp":"2026-01-01T00:00:00Z","data":{{"megabatch":"{}",'
    '"run":"run","attempt":1,"rank":0,"world":1,"epoch":0,"minibatches":7,"checkpoint":null}}}}'
)
Serving = Callable[[FastAPI], AbstractContextManager[str]]
# One server for all: with xdist these tests stay in one process.
pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]


@dataclass(frozen=True, slots=True)
class Book:
    """A ledger, where its file lies, and its one plan with a megabatch in use."""

    ledger: Ledger
    database: Path
    plan: str
    megabatch: str


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    """Give a ledger whose outbox asks for one run of the stage flow."""
    database, plan = tmp_path / "ledger.db", uuid4().hex[:16]
    with Ledger.open(f"sqlite:///{database}") as ledger:
        ledger.register_plan(plan, "{}", needs=[10])
        megabatch = megabatch_id(plan, 0)
        ledger.begin_run("run", attempt=1, world=1, plan=plan)
        ledger.ready(megabatch, ledger.claim_staging(megabatch, budget=10, worker="w"), size=10)
        yield Book(ledger, database, plan, megabatch)


@pytest.fixture(scope="module")
def deployed(prefect_api: str) -> str:
    """Give the API of a server that has the deployments cleanup/cleanup and stage/stage."""
    for name in ("cleanup", "stage"):
        flow = ask("POST", f"{prefect_api}/flows/", {"name": name}).json()
        ask("POST", f"{prefect_api}/deployments/", {"name": name, "flow_id": flow["id"]})
    return prefect_api


def ask(method: str, url: str, body: object = None) -> httpx.Response:
    """Call Prefect's API; its database on SQLite is busy at times, as its own client knows."""
    deadline = time.monotonic() + 30
    while True:
        answer = httpx.request(method, url, json=body, timeout=30)
        if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
            return answer.raise_for_status()
        time.sleep(0.2)


def created(api: str, key: str) -> list[dict[str, object]]:
    """Read the flow runs of a key."""
    wanted = {"flow_runs": {"idempotency_key": {"any_": [key]}}}
    return ask("POST", f"{api}/flow_runs/filter", wanted).json()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, a quarter of a minute at most."""
    deadline = time.monotonic() + 15
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it has not happened in 15 s"
        await asyncio.sleep(0.05)


def column(book: Book, name: str) -> list[object]:
    """Read a column of the outbox."""
    with sqlite3.connect(book.database) as connection:
        rows = connection.execute(f"SELECT {name} FROM outbox ORDER BY id").fetchall()  # noqa: S608
    connection.close()
    return [row[0] for row in rows]


async def send_all(book: Book, api: str) -> None:
    """Run a sender until the outbox is empty."""
    async with Sender(book.ledger, api).running():
        await until(lambda: None not in column(book, "flow_run"))


@asynccontextmanager
async def forwarding(port: int, api: str) -> AsyncGenerator[None]:
    """Bring a server up at this port: what comes is passed on to the real one."""
    target = httpx.URL(api)
    writers: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while piece := await reader.read(65536):
            writer.write(piece)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.host, target.port)
        await asyncio.gather(copy(reader, back), copy(there, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", port):
        yield
        for writer in writers:
            writer.close()
            await writer.wait_closed()


def test_a_row_sent_twice_is_one_flow_run(book: Book, deployed: str) -> None:
    """A receiver killed between Prefect's answer and its record sends again: one run, not two."""
    asyncio.run(send_all(book, deployed))
    first = column(book, "flow_run")
    with sqlite3.connect(book.database) as connection:
        connection.execute("UPDATE outbox SET sent_at = NULL, flow_run = NULL")
    connection.close()
    asyncio.run(send_all(book, deployed))
    assert column(book, "flow_run") == first
    (run,) = created(deployed, f"stage-{book.plan}-run-1")
    assert run["id"] == first[0]
    assert run["parameters"] == {"plan": book.plan}
    assert run["state_type"] == "SCHEDULED"


def test_nothing_is_lost_while_prefect_is_down(
    book: Book, deployed: str, unused_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The row waits, its trouble is logged once, and the run is created when the server is back."""
    caplog.set_level(logging.INFO, logger="chipmill.service.outbox")

    async def outage() -> None:
        api = f"http://127.0.0.1:{unused_port}/api"
        async with Sender(book.ledger, api).running():
            await until(lambda: int(str(column(book, "attempts")[0])) > 1)
            assert "does not answer" in str(column(book, "error")[0])
            async with forwarding(unused_port, deployed):
                await until(lambda: None not in column(book, "flow_run"))

    asyncio.run(outage())
    assert len(created(deployed, f"stage-{book.plan}-run-1")) == 1
    waits = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(waits) == 2
    assert "waits with stage" in waits[0]
    assert "moves again" in waits[1]


def test_a_completion_starts_the_cleanup(book: Book, deployed: str, serving: Serving) -> None:
    """From a trainer's report over HTTP to a flow run that names the megabatch, and an event."""
    sender = Sender(book.ledger, deployed)
    body = COMPLETED.format(book.megabatch).encode()
    signed = headers(
        run_key(MASTER, "run"), run="run", message_id="m", timestamp=int(time.time()), body=body
    )
    with serving(create_app(book.ledger, [MASTER], sender=sender)) as url:
        answer = httpx.post(f"{url}/v1/megabatch-complete", content=body, headers=signed)
        assert answer.json() == {"status": "complete"}
        asyncio.run(until(lambda: None not in column(book, "flow_run")))
        assert httpx.get(f"{url}/readyz").status_code == 200
    (run,) = created(deployed, f"cleanup-{book.megabatch}-g1")
    assert run["parameters"] == {"megabatch": book.megabatch}
    assert not sender.alive
    resource = f"chipmill.megabatch.{book.megabatch}"
    wanted = {"filter": {"event": {"name": ["chipmill.megabatch.complete"]}}}

    def told() -> list[str]:
        found = ask("POST", f"{deployed}/events/filter", wanted).json()["events"]
        return [each["resource"]["prefect.resource.id"] for each in found]

    asyncio.run(until(lambda: resource in told()))
    assert told().count(resource) == 1


def test_a_missing_deployment_is_named_and_holds_up_no_other(book: Book, deployed: str) -> None:
    """A forgotten deploy of one flow is said, and the other flow's runs start all the same."""
    stage = ask("GET", f"{deployed}/deployments/name/stage/stage").json()
    ask("DELETE", f"{deployed}/deployments/{stage['id']}")
    book.ledger.release_run("run")

    async def partly() -> None:
        async with Sender(book.ledger, deployed).running():
            await until(lambda: column(book, "flow_run")[1] is not None)
            assert "no deployment stage/stage" in str(column(book, "error")[0])
            order = {"name": "stage", "flow_id": stage["flow_id"]}
            await asyncio.to_thread(ask, "POST", f"{deployed}/deployments/", order)
            await until(lambda: None not in column(book, "flow_run"))

    asyncio.run(partly())


def test_another_server_is_not_taken_for_prefect(book: Book, serving: Serving) -> None:
    """An answer that is no Prefect's must not count as sent, whatever its status is."""
    app = FastAPI()
    app.get("/api/deployments/name/stage/stage")(lambda: {"hello": "world"})

    async def wrong(api: str) -> None:
        async with Sender(book.ledger, api).running():
            await until(lambda: bool(column(book, "error")[0]))

    with serving(app) as url:
        asyncio.run(wrong(f"{url}/api"))
    assert "is not Prefect's API; check PREFECT_API_URL" in str(column(book, "error")[0])
    assert column(book, "flow_run") == [None]
