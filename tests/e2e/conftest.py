"""All processes of a team on one machine; each can be killed and started again."""

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from chipmill.formats.webhook import encode_key
from chipmill.service.keys import run_key
from chipmill.service.processes import Program, Running
from tests.prefect_rest import ask

Json = dict[str, Any]
PATIENCE = 900.0
"""Seconds for one step on a busy machine."""


@dataclass
class Site:
    """Prefect server, receiver, worker and S3 server on loopback, and trainers that come and go."""

    folder: Path
    binaries: Path
    ports: dict[str, int]
    database: str | None
    """SQLAlchemy URL of PostgreSQL; None: SQLite."""
    running: dict[str, Running] = field(default_factory=dict[str, Running])
    master: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def api(self) -> str:
        """Address of Prefect's API."""
        return f"http://127.0.0.1:{self.ports['prefect']}/api"

    @property
    def ledger(self) -> str:
        """URL of the ledger."""
        return self.database or f"sqlite:///{self.folder / 'ledger.db'}"

    @property
    def s3(self) -> dict[str, str]:
        """How S3 is reached."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports['s3']}",
            "AWS_ACCESS_KEY_ID": "chipmill",
            "AWS_SECRET_ACCESS_KEY": encode_key(self.master)[-16:],
            "AWS_REGION": "us-east-1",
        }

    @property
    def environment(self) -> dict[str, str]:
        """What the team has set."""
        database: dict[str, str] = {}
        if self.database is not None:
            url = self.database.replace("+psycopg", "+asyncpg")
            database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}
        return {
            "PATH": f"{self.binaries}:{os.defpath}",
            "HOME": str(self.folder),
            "CHIPMILL_ARCHIVE": "s3://team/archive",
            "CHIPMILL_FAST": str(self.folder / "fast"),
            "CHIPMILL_BUDGET": "60MB",
            "CHIPMILL_LEDGER": self.ledger,
            "CHIPMILL_LOCAL_SOURCES": "true",
            "CHIPMILL_RECEIVER": f"http://127.0.0.1:{self.ports['receiver']}",
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "DO_NOT_TRACK": "1",
            **database,
            **self.s3,
        }

    def start(self, *names: str) -> None:
        """Start programs by name, each until it answers."""
        for name in names:
            self.running[name] = Running.start(self._program(name))
            self.running[name].wait_until_up(patience=PATIENCE)

    def start_trainers(self, plan: str, *, attempt: int) -> None:
        """Start the two ranks of the run, which know the run's key and not the master."""
        known = ("PATH", "HOME", "CHIPMILL_ARCHIVE", "CHIPMILL_FAST", "CHIPMILL_RECEIVER")
        key = encode_key(run_key(self.master, "run"))
        environment = {name: self.environment[name] for name in known} | self.s3
        script = str(Path(__file__).with_name("trainer.py"))
        (self.folder / "train").mkdir(exist_ok=True)
        for rank in "01":
            name = f"rank-{rank}"
            arguments = (plan, "run", str(attempt), rank, "2", str(self.folder / "train"))
            program = Program(
                name=name,
                command=(sys.executable, script, *arguments),
                environment={**environment, "CHIPMILL_WEBHOOK_KEY": key},
                log=self.folder / f"{name}.log",
            )
            self.running[name] = Running.start(program)

    def run(self, *command: str) -> None:
        """Run a command of chipmill's to its end."""
        Running.start(self._program(command[0], *command)).wait_until_done()

    def kill_all(self) -> None:
        """Kill every process at once, as when the power fails."""
        for running in self.running.values():
            running.kill()
        self.running.clear()

    def stop(self) -> None:
        """Stop every process."""
        while self.running:
            self.running.popitem()[1].stop(patience=5)

    def ask(self, method: str, path: str, **body: object) -> Any:  # noqa: ANN401  # JSON
        """Give the JSON of an answer of Prefect's."""
        return ask(self.api, method, path, **body)

    def start_run(self, name: str, parameters: Json) -> str:
        """Start a deployment as the form of the UI does; gives the id of the flow run."""
        found = self.ask("GET", f"/deployments/name/{name}/{name}")
        state = {"type": "SCHEDULED", "message": "Run from the Prefect UI"}
        path = f"/deployments/{found['id']}/create_flow_run"
        return str(self.ask("POST", path, parameters=parameters, state=state)["id"])

    def follow(self, flow_run: str) -> Json:
        """Wait until a flow run has ended well."""

        def ended() -> Json | None:
            run = cast("Json", self.ask("GET", f"/flow_runs/{flow_run}"))
            failed = run["state_type"] in ("FAILED", "CRASHED", "CANCELLED")
            assert not failed, (run["name"], run["state"]["message"])
            return run if run["state_type"] == "COMPLETED" else None

        return _wait_for(f"the end of flow run {flow_run}", ended)

    def _program(self, name: str, *command: str) -> Program:
        prefect, chipmill = str(self.binaries / "prefect"), str(self.binaries / "chipmill")
        commands: dict[str, tuple[tuple[str, ...], str | None]] = {
            "s3": (self._weed(), self.s3["AWS_ENDPOINT_URL"] + "/healthz"),
            "prefect": (
                (prefect, "server", "start", "--port", str(self.ports["prefect"])),
                f"{self.api}/health",
            ),
            "receiver": (
                (chipmill, "serve", "--port", str(self.ports["receiver"])),
                self.environment["CHIPMILL_RECEIVER"] + "/readyz",
            ),
            "worker": ((prefect, "worker", "start", "--pool", "chipmill"), None),
        }
        line, answers = commands.get(name, ((chipmill, *command), None))
        secret: dict[str, str] = {}
        if name == "receiver":
            secret = {"CHIPMILL_WEBHOOK_MASTER": encode_key(self.master)}
        return Program(
            name=name,
            command=line,
            environment=self.environment | secret,
            log=self.folder / f"{name}.log",
            answers=answers,
        )

    def _weed(self) -> tuple[str, ...]:
        (self.folder / "weed").mkdir(exist_ok=True)
        ports = {name: self.ports[name] for name in ("master", "volume", "filer", "s3")}
        return (
            str(self.binaries / "weed"),
            "server",
            f"-dir={self.folder / 'weed'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            *(f"-{name}.port={port}" for name, port in ports.items()),
        )


def _wait_for(what: str, found: Callable[[], Any], *, patience: float = PATIENCE) -> Any:  # noqa: ANN401
    """Ask until there is an answer, and give it."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        answer = found()
        if answer:
            return answer
        time.sleep(0.3)
    pytest.fail(f"{what} did not come within {patience:.0f} s")


@pytest.fixture
def site(
    request: pytest.FixtureRequest,
    free_port: Callable[[], int],
    binaries: Path,
    tmp_path: Path,
) -> Iterator[Site]:
    """Give a place where nothing runs yet; with `--postgres` its databases are PostgreSQL's."""
    database: str | None = None
    if request.config.getoption("--postgres"):
        database = str(request.getfixturevalue("postgres"))
    names = ("prefect", "receiver", "master", "volume", "filer", "s3")
    site = Site(tmp_path, binaries, {name: free_port() for name in names}, database)
    yield site
    site.stop()


@pytest.fixture(scope="session")
def items(item_collection: Path) -> list[Json]:
    """Give the items of the demo's NAIP and Sentinel-2 scenes, with absolute hrefs."""
    return cast("list[Json]", json.loads(item_collection.read_text())["features"])


@pytest.fixture(scope="session")
def wait_for() -> Callable[[str, Callable[[], Any]], Any]:
    """Give a function that asks until there is an answer, and gives it."""
    return _wait_for
