"""The automations on a real server: what they do when a run crashes, is lost, or is not taken.

States come from events, as when a worker or a host dies; the waits of minutes are cut to seconds.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import httpx
import pytest

from chipmill.formats.server_file import AutomationEntry, parse_server_file
from chipmill.service.prefect_server import PrefectServer

pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]

Json = dict[str, Any]
Told = list[Json]
PATIENCE = 300.0
"""Seconds for an automation to act on a busy machine."""


class Server(Protocol):
    """The server of conftest.py."""

    api: str

    def ask(self, method: str, path: str, **body: object) -> Any: ...  # noqa: ANN401, D102
    def deployments(self) -> dict[str, Json]: ...  # noqa: D102


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, Told]]:
    """Listen where messages to people go; gives the address and what has come."""
    come: Told = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            come.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its own name
            """Keep the output of the tests clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Ear) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_address[1]}", come
        listener.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def hasty(server: Server, root: Path, told: tuple[str, Told]) -> Iterator[None]:
    """Let the automations of the file wait seconds, and send their messages to the test."""
    path = root / "deployments" / "server.yaml"
    entries = parse_server_file(path.read_text(), where="server.yaml").automations
    with httpx.Client(base_url=server.api, timeout=60) as client:
        prefect = PrefectServer(client)
        block = _message_block(server, told[0])
        prefect.set_automations([_hasty(each) for each in entries], notify=block)
        time.sleep(2)  # the server's services read automations again when they hear of a change
        yield
        prefect.set_automations(entries, notify=None)


def _hasty(entry: AutomationEntry) -> AutomationEntry:
    if entry.trigger["posture"] == "Reactive":
        return entry
    return entry.model_copy(update={"trigger": entry.trigger | {"within": 10}})


@pytest.mark.usefixtures("hasty")
def test_a_crashed_run_is_started_again_and_people_hear_of_it(
    server: Server, told: tuple[str, Told]
) -> None:
    """Once: a run that crashes each time must not do so all night."""
    run = _run(server)
    _set(server, run, "RUNNING")
    _set(server, run, "CRASHED")
    _wait("another start", lambda: _state(server, run) == ("SCHEDULED", "AwaitingRetry"))
    _wait("the message", lambda: any("crashed" in each["subject"] for each in told[1]))
    _set(server, run, "RUNNING")
    _set(server, run, "CRASHED")
    time.sleep(10)
    assert _state(server, run)[0] == "CRASHED"
    server.ask("DELETE", f"/flow_runs/{run}")


@pytest.mark.usefixtures("hasty")
def test_a_run_that_gives_no_sign_of_life_is_taken_for_crashed(server: Server) -> None:
    """Host, worker and flow are gone: nobody is left who could say so."""
    run = _run(server)
    _set(server, run, "RUNNING")
    _beat(server, run)
    _wait("the end of patience", lambda: _state(server, run) == ("SCHEDULED", "AwaitingRetry"))
    states = server.ask("GET", f"/flow_run_states/?flow_run_id={run}")
    assert "No sign of life for 90 seconds." in [each["message"] for each in states]
    server.ask("DELETE", f"/flow_runs/{run}")


@pytest.mark.usefixtures("hasty")
def test_people_hear_when_nobody_takes_a_run(server: Server, told: tuple[str, Told]) -> None:
    """A worker that died at night shows as a message, and not as an empty disk."""
    run = _run(server)  # the server calls it late after a while, since no worker is here
    _wait("the message", lambda: any("no run is taken" in each["subject"] for each in told[1]))
    server.ask("DELETE", f"/flow_runs/{run}")


def _run(server: Server) -> str:
    """Start a deployment, which no worker takes."""
    deployment = server.deployments()["stats"]["id"]
    order: Json = {"parameters": {"request": {}}, "state": {"type": "SCHEDULED"}}
    return str(server.ask("POST", f"/deployments/{deployment}/create_flow_run", **order)["id"])


def _set(server: Server, run: str, state: str) -> None:
    """Report a state, as the process of a run or its worker does."""
    said: Json = {"type": state, "name": state.capitalize()}
    server.ask("POST", f"/flow_runs/{run}/set_state", state=said, force=True)


def _state(server: Server, run: str) -> tuple[str, str]:
    state = server.ask("GET", f"/flow_runs/{run}")["state"]
    return str(state["type"]), str(state["name"])


def _beat(server: Server, run: str) -> None:
    """Emit the sign of life of a run, as Prefect's engine does."""
    event: Json = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [
            {
                "prefect.resource.id": "prefect.tag.chipmill",
                "prefect.resource.role": "tag",
            }
        ],
    }
    answer = httpx.post(f"{server.api}/events", json=[event], timeout=60)
    assert answer.is_success, answer.text


def _message_block(server: Server, address: str) -> str:
    """Make a block that sends messages to an address; gives its id."""
    kind = server.ask("GET", "/block_types/slug/custom-webhook")["id"]
    asked: Json = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
    (schema, *_) = server.ask("POST", "/block_schemas/filter", **asked)
    message = {"subject": "{{subject}}", "body": "{{body}}"}
    made = server.ask(
        "POST",
        "/block_documents/",
        name="people",
        data={"name": "people", "url": address, "method": "POST", "json_data": message},
        block_schema_id=schema["id"],
        block_type_id=kind,
    )
    return str(made["id"])


def _wait(what: str, found: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.5)
