"""Every command of the Compose file, with its environment and health check, outside of Docker.

Names of services become ports of loopback, and volumes become folders. What is not run here is the
image's own making.
"""

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import s3fs
import yaml

from chipmill.service.processes import Program, Running

pytestmark = [pytest.mark.flows, pytest.mark.s3, pytest.mark.xdist_group("postgres")]

Json = dict[str, Any]
DOCKER = Path(__file__).parents[2] / "docker"
PATIENCE = 600.0
"""Seconds for one service on a busy machine."""
SERVICES: dict[str, Json] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]


@dataclass(frozen=True)
class Outside:
    """A place where the services run without containers."""

    folder: Path
    binaries: Path
    ports: dict[str, int]
    secrets: dict[str, str]

    def translated(self, text: str) -> str:
        """Fill in what `.env` says, and put loopback for the names and ports of services."""
        text = re.sub(r"\$\{([A-Z_]+)(?::?[-?][^}]*)?\}", lambda m: self.secrets[m[1]], text)
        for address, name in (
            ("postgres:5432", "postgres"),
            ("prefect:4200", "prefect"),
            ("127.0.0.1:4200", "prefect"),
            ("s3:8333", "s3"),
            ("127.0.0.1:8333", "s3"),
            ("127.0.0.1:8787", "receiver"),
            ("127.0.0.1:8080", "worker"),
        ):
            text = text.replace(address, f"127.0.0.1:{self.ports[name]}")
        return text.replace("0.0.0.0", "127.0.0.1").replace("=s3 ", "=127.0.0.1 ")  # noqa: S104

    def environment(self, service: Json) -> dict[str, str]:
        """Give what Compose would, and what stands for its network and its image."""
        said = {name: self.translated(str(value)) for name, value in service["environment"].items()}
        if "CHIPMILL_FAST" in said:
            said["CHIPMILL_FAST"] = str(self.folder / "fast")
        return {
            "PATH": f"{self.binaries}:{os.defpath}",
            "HOME": str(self.folder),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(self.ports["prefect"]),
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
            "PREFECT_WORKER_WEBSERVER_PORT": str(self.ports["worker"]),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.folder / "ui"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            **said,
        }

    def command(self, name: str) -> list[str]:
        """Give a service's command line; what an entrypoint of an image adds stands here."""
        said = SERVICES[name]["command"]
        words = shlex.split(self.translated(said)) if isinstance(said, str) else list(said)
        if name == "s3":
            kinds = ("master", "volume", "filer", "s3")
            more = [f"-{kind}.port={self.ports[kind]}" for kind in kinds]
            words = [word.replace("=/data", f"={self.folder / 'weed'}") for word in words]
            return [str(self.binaries / "weed"), *words, "-master.volumeSizeLimitMB=64", *more]
        if name == "receiver":
            words += ["--port", str(self.ports["receiver"])]
        return [str(self.binaries / words[0]), *words[1:]]

    def check(self, name: str) -> bool:
        """Run a service's own health check."""
        service = SERVICES[name]
        environment = self.environment(service)
        test = service.get("healthcheck", {}).get("test") or ["CMD", *_image_check()]
        kind, *words = (self.translated(str(word)) for word in test)
        if kind == "CMD-SHELL":
            words = ["sh", "-c", words[0]]
        if words[0] == "python":
            words[0] = sys.executable
        done = subprocess.run(words, env=environment, capture_output=True, check=False)
        return done.returncode == 0


def _dockerfile() -> str:
    return (DOCKER / "Dockerfile").read_text()


def _image_check() -> list[str]:
    found = re.search(r"^HEALTHCHECK [^\[]*(\[.*?\])$", _dockerfile(), re.MULTILINE)
    assert found is not None
    return cast("list[str]", json.loads(found[1]))


@pytest.fixture
def outside(
    postgres: str, free_port: Callable[[], int], binaries: Path, tmp_path: Path
) -> Iterator[Outside]:
    """Give the place, and the database and the role that PostgreSQL's image makes at its start."""
    names = ("prefect", "receiver", "worker", "master", "volume", "filer", "s3")
    ports = {name: free_port() for name in names}
    ports["postgres"] = int(postgres.rpartition(":")[2].partition("/")[0])
    example = (DOCKER / ".env.example").read_text()
    filled = dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE))
    filled |= {name: secrets.token_hex(16) for name, value in filled.items() if not value}
    done = subprocess.run(
        [str(binaries / "chipmill"), "secret"], capture_output=True, text=True, check=True
    )
    filled |= {"CHIPMILL_WEBHOOK_MASTER": done.stdout.strip(), "CHIPMILL_NOTIFY_BLOCK": ""}
    made = SERVICES["postgres"]["environment"]
    role, database = made["POSTGRES_USER"], made["POSTGRES_DB"]
    server = postgres.replace("+psycopg", "")
    with psycopg.connect(server, autocommit=True) as connection:
        password = filled["POSTGRES_PASSWORD"]
        connection.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'".encode())
        connection.execute(f"CREATE DATABASE {database} OWNER {role}".encode())
    (tmp_path / "weed").mkdir()
    yield Outside(tmp_path, binaries, ports, filled)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())
        connection.execute(f"DROP ROLE {role}".encode())


def test_every_command_runs_and_is_healthy(outside: Outside) -> None:
    """In the order that `depends_on` gives, each with the health check that others wait for."""
    with ExitStack() as stack:
        done = set[str]()
        for name in _in_order():
            done.add(name)
            if name == "postgres":
                continue  # the test run's own server is up
            started = stack.enter_context(_running(outside, name))
            if SERVICES[name]["restart"] == "no":
                started.wait_until_done()
            else:
                _wait_until_healthy(outside, name, started)
        assert done == set(SERVICES)
        environment = outside.environment(SERVICES["bucket"])
        store: Any = s3fs.S3FileSystem(
            key=environment["AWS_ACCESS_KEY_ID"],
            secret=environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=environment["AWS_ENDPOINT_URL"],
        )
        assert store.exists("chipmill")
        ledger = outside.environment(SERVICES["receiver"])["CHIPMILL_LEDGER"]
        with psycopg.connect(ledger.replace("+psycopg", "")) as connection:
            tables = connection.execute("SELECT table_name FROM information_schema.tables")
            assert {"outbox", "flow_run"} <= {row[0] for row in tables}


def _in_order() -> list[str]:
    """Sort the services so that each comes after those that it waits for."""
    order: list[str] = []
    while len(order) < len(SERVICES):
        order += [
            name
            for name, service in SERVICES.items()
            if name not in order and set(service.get("depends_on", ())) <= set(order)
        ]
    return order


@contextmanager
def _running(outside: Outside, name: str) -> Generator[Running]:
    program = Program(
        name=name,
        command=outside.command(name),
        environment=outside.environment(SERVICES[name]),
        log=outside.folder / f"{name}.log",
    )
    running = Running.start(program)
    try:
        yield running
    finally:
        running.stop(patience=10)


def _wait_until_healthy(outside: Outside, name: str, running: Running) -> None:
    end = time.monotonic() + PATIENCE
    while not outside.check(name):
        if not running.alive or time.monotonic() > end:
            log = (outside.folder / f"{name}.log").read_text()[-2000:]
            pytest.fail(f"{name} is not healthy: {log}")
        time.sleep(0.5)
