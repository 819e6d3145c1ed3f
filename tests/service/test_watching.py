"""What watches over a receiver is told the truth: document, figures, log and health."""

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from chipmill.formats.webhook import headers
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import megabatch_id
from chipmill.service.keys import run_key
from chipmill.service.logs import JsonLines, facts
from chipmill.service.outbox import Sender
from chipmill.service.receiver import create_app
from chipmill.service.watch import Watch

MASTER = bytes(range(32))
PLAN = "0123456789abcdef"
IDS = [megabatch_id(PLAN, number) for number in range(3)]
COMPLETE = "/v1/megabatch-complete"
Serving = Callable[[FastAPI], AbstractContextManager[str]]


@dataclass(frozen=True)
class House:
    """A receiver with a run of two ranks, one megabatch in use and one in staging."""

    ledger: Ledger
    database: Path
    client: httpx.Client

    def report(self, **other: object) -> httpx.Response:
        """Report, good but for what is given otherwise."""
        data = {"megabatch": IDS[0], "run": "run", "attempt": 1, "rank": 0, "world": 2}
        data |= {"epoch": 0, "minibatches": 7} | other
        message = {"type": "megabatch.completed", "timestamp": "2026-01-01T00:00:00Z", "data": data}
        body = json.dumps(message).encode()
        now = int(time.time())
        signed = headers(
            run_key(MASTER, "run"), run="run", message_id=f"m{len(body)}", timestamp=now, body=body
        )
        return self.client.post(COMPLETE, content=body, headers=signed)

    def figures(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Scrape, as Prometheus' own parser reads it: by name and values of labels."""
        answer = self.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }


@pytest.fixture
def house(tmp_path: Path, serving: Serving) -> Iterator[House]:
    """Serve it."""
    with Ledger.open(f"sqlite:///{tmp_path / 'l.db'}", patience=0.5) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10] * 3)
        ledger.begin_run("run", attempt=1, world=2, plan=PLAN)
        ledger.ready(IDS[0], ledger.claim_staging(IDS[0], budget=30, worker="w"), size=7)
        ledger.claim_staging(IDS[1], budget=30, worker="w")
        app = create_app(ledger, [MASTER], watch=Watch(ledger, budget=30))
        with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield House(ledger, tmp_path / "l.db", client)


def test_the_figures_are_those_of_the_ledger(house: House) -> None:
    """What alerts are made of: budget, states, what waits for Prefect, who has not reported."""
    seen = house.figures()
    for name, value in (
        ("chipmill_ledger_up", 1),
        ("chipmill_budget_bytes", 30),
        ("chipmill_reserved_bytes", 17),
        ("chipmill_outbox_pending", 1),
        ("chipmill_runs", 1),
    ):
        assert seen[name, ()] == value
    states = {labels[0]: n for (name, labels), n in seen.items() if name == "chipmill_megabatches"}
    assert {state for state, count in states.items() if count} == {"in_use", "staging", "planned"}
    assert seen["chipmill_ranks_missing", ("run",)] == 2
    assert seen["chipmill_outbox_age_seconds", ()] >= 0
    assert ("chipmill_last_cleanup_timestamp_seconds", ()) not in seen
    for row in house.ledger.pending():
        house.ledger.sent(row.id, "flow-run")
    assert house.report().status_code == 200
    time.sleep(1.1)  # a reading serves all who ask within a second
    seen = house.figures()
    assert seen["chipmill_ranks_missing", ("run",)] == 1
    assert (seen["chipmill_outbox_pending", ()], seen["chipmill_outbox_age_seconds", ()]) == (0, 0)


def test_answers_are_counted_by_route_and_strangers_make_no_labels(house: House) -> None:
    """A label that somebody outside can choose would fill the memory of all who scrape."""
    house.report()
    house.report(rank=9)
    for number in range(5):
        house.client.get(f"/made/up/{number}")
        house.client.request(f"BREW{number}", COMPLETE)
    seen = house.figures()
    counts = {labels: n for (name, labels), n in seen.items() if name == "chipmill_requests_total"}
    assert counts["POST", COMPLETE, "200"] == 1
    assert counts["POST", COMPLETE, "422"] == 1
    assert counts["GET", "other", "404"] == 5
    assert sum(n for labels, n in counts.items() if labels[0] == "other") == 5
    assert seen["chipmill_request_seconds_count", (COMPLETE,)] >= 2
    assert {labels[1] for labels in counts} <= {COMPLETE, "other", "/metrics"}


def test_figures_are_there_without_the_ledger(house: House) -> None:
    """That the ledger is away is itself a figure; the page says it, too."""
    holder = sqlite3.connect(house.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    seen = house.figures()
    page = house.client.get("/")
    holder.execute("ROLLBACK")
    holder.close()
    assert seen["chipmill_ledger_up", ()] == 0
    assert ("chipmill_reserved_bytes", ()) not in seen
    assert page.status_code == 503
    assert "The ledger does not answer" in page.text
    assert house.figures()["chipmill_ledger_up", ()] == 1


def test_the_document_names_every_answer(house: House) -> None:
    """Each status that the receiver gives at a path of its document is in the document."""
    paths = house.client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/v1/runs", COMPLETE, "/healthz", "/readyz", "/metrics"}
    known = {
        (path, method.upper()): set(said["responses"])
        for path, methods in paths.items()
        for method, said in methods.items()
    }
    answers = [
        house.report(),
        house.report(rank=5),
        house.report(megabatch=IDS[2]),
        house.report(megabatch=megabatch_id("f" * 16, 0)),
        house.client.post(COMPLETE, content=b"{}"),
        house.client.post("/v1/runs", content=b"x" * 30_000),
        house.client.get("/healthz"),
        house.client.get("/readyz"),
        house.client.get("/metrics"),
    ]
    for answer in answers:
        request = answer.request
        assert str(answer.status_code) in known[request.url.path, request.method]
        if request.url.path != "/metrics":
            assert list(answer.json()) == ["status"]
    assert {answer.status_code for answer in answers} == {200, 401, 404, 409, 413, 422}


def test_a_sender_that_has_stopped_is_not_ready(tmp_path: Path, serving: Serving) -> None:
    """A load balancer learns of a receiver whose outbox has stopped; Prefect may well be away."""
    with Ledger.open(f"sqlite:///{tmp_path / 'l.db'}") as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10])
        ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
        sender = Sender(ledger, "http://127.0.0.1:9/api")
        with serving(create_app(ledger, [MASTER], sender=sender)) as url:
            answer = httpx.get(f"{url}/readyz", timeout=60)
            assert answer.status_code == 200
            assert "1 flow runs wait for Prefect since" in answer.json()["status"]
        answer = asyncio.run(_asked(create_app(ledger, [MASTER], sender=sender), "/readyz"))
        assert (answer.status_code, answer.json()["status"][:10]) == (503, "the outbox")


async def _asked(app: FastAPI, path: str) -> httpx.Response:
    """Ask an application whose sender nobody has started."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://receiver"
    ) as client:
        return await client.get(path)


def test_a_line_of_the_log_is_one_object() -> None:
    """A collector reads time, level, message and facts, also of an error and of strange text."""
    form = JsonLines()
    record = logging.makeLogRecord({"name": "a.b", "levelname": "INFO", "msg": "line\n%s"})
    record.args = ('"quoted"',)
    record.__dict__.update(facts(route="/x", status=200))
    line = form.format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == 'line\n"quoted"'
    assert (said["logger"], said["level"]) == ("a.b", "INFO")
    assert (said["route"], said["status"]) == ("/x", 200)
    assert said["time"].endswith("+00:00")
