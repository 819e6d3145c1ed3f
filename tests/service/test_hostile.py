"""Hostile requests in great number: nothing changes, nothing breaks, honest ones get through."""

import asyncio
import io
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, MutableMapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine

from chipmill.io import ledger_tables
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State
from chipmill.service.logs import JsonLines
from chipmill.service.receiver import create_app
from tests.service.hostile import (
    IN_USE,
    KINDS,
    MASTER,
    NOW,
    PLAN,
    READY,
    SECRETS,
    STAGING,
    Mischief,
    Sent,
    completion,
    signed,
)

SEED = 20261128


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Give the URL of a ledger with a run of two ranks and megabatches in several states."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger.open(url, clock=lambda: float(NOW)) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[10] * 4)
        fences = [ledger.claim_staging(name, budget=99, worker="w") for name in (IN_USE, STAGING)]
        ledger.ready(IN_USE, fences[0], size=10)
        ledger.begin_run("run", attempt=2, world=2, plan=PLAN)
        ledger.begin_run("run2", attempt=2, world=2, plan=PLAN)
        ledger.release_run("run2")
    return url


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Give all that is logged meanwhile, at every level, as the receiver writes it."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(before)
    root.removeHandler(handler)


def content(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read everything that the ledger holds."""
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = ledger_tables.metadata.sorted_tables
        found = {t.name: [tuple(row) for row in connection.execute(t.select())] for t in tables}
    engine.dispose()
    return found


async def answer(app: FastAPI, sent: Sent) -> int:
    """Put one request through the application; gives the status."""
    rest = iter(sent.parts)
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        try:
            return {"type": "http.request", "body": next(rest), "more_body": True}
        except StopIteration:
            if sent.breaks_off:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": sent.method,
        "path": sent.path,
        "raw_path": sent.path.encode(),
        "root_path": "",
        "query_string": SECRETS[2].encode(),
        "headers": [(name.lower(), value) for name, value in sent.headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8787),
    }
    await app(scope, receive, send)
    (status,) = statuses
    return status


def test_hostile_requests_do_nothing(
    url: str, log: io.StringIO, pytestconfig: pytest.Config
) -> None:
    """F5: no change, no answer of 5xx, no exception, no secret in the log; then honest reports."""
    count = cast("int", pytestconfig.getoption("--hostile"))
    before = content(url)
    answers: defaultdict[str, Counter[int]] = defaultdict(Counter)
    mischief = Mischief(SEED)
    with Ledger.open(url, clock=lambda: float(NOW)) as ledger:
        app = create_app(ledger, [MASTER], clock=lambda: float(NOW))

        async def storm() -> list[int]:
            async with app.router.lifespan_context(app):
                for kind in islice(cycle(KINDS), count):
                    answers[kind][await answer(app, mischief(kind))] += 1
                assert content(url) == before
                reports = [(1, "b"), (1, "b"), (0, "a"), (1, "b"), (0, "a")]
                return [
                    await answer(app, signed(completion(rank=rank), message_id=name))
                    for rank, name in reports
                ]

        assert asyncio.run(storm()) == [200] * 5
        assert ledger.megabatch(IN_USE).state is State.COMPLETE
        assert ledger.megabatch(STAGING).state is State.STAGING
        assert ledger.megabatch(READY).state is State.PLANNED
    assert [kind for kind, found in answers.items() if min(found) < 400 or max(found) > 499] == []
    written = log.getvalue()
    assert written.count('"status": 401') > count // 26
    assert [line for line in written.splitlines() if '"level": "ERROR"' in line] == []
    assert "Traceback" not in written
    for secret in SECRETS:
        assert secret not in written
