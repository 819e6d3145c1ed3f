"""`chipmill up`: all programs on one machine, each deployment run once, all gone at the end."""

import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from chipmill.io.ledger import Ledger

pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("e2e")]

Json = dict[str, Any]
Wait = Callable[[str, Callable[[], Any]], Any]
ROOT = Path(__file__).parents[2]
ENTRIES: list[Json] = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())[
    "deployments"
]


@dataclass
class Up:
    """One `chipmill up`."""

    process: "subprocess.Popen[bytes]"
    home: Path
    ports: tuple[int, int]
    log: Path

    @property
    def api(self) -> str:
        """Address of Prefect's API."""
        return f"http://127.0.0.1:{self.ports[0]}/api"

    def is_said(self, words: str) -> bool:
        """Tell whether it has said something."""
        assert self.process.poll() is None, self.log.read_text()
        return words in self.log.read_text()

    def children(self) -> list[psutil.Process]:
        """List all processes below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, words: str) -> psutil.Process | None:
        """Find the program whose command line has these words."""
        for each in psutil.Process(self.process.pid).children():
            if words in " ".join(each.cmdline()):
                return each
        return None

    def ask(self, method: str, path: str, **body: object) -> Any:  # noqa: ANN401  # JSON
        """Give the JSON of an answer of Prefect's."""
        tries = 0
        while True:
            answer = httpx.request(method, self.api + path, json=body or None, timeout=60)
            tries += 1
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE.value or tries == 20:
                break
            time.sleep(0.5)  # SQLite is locked: Prefect's own client tries again too
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def up(
    binaries: Path, free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Up]:
    """Start everything on free ports; what a test has not stopped is stopped."""
    folder = tmp_path_factory.mktemp("up")
    ports = (free_port(), free_port())
    started = Up(_start(binaries, folder, ports), folder / "home", ports, folder / "log")
    yield started
    if started.process.poll() is None:
        started.process.terminate()
        started.process.wait(120)


def _start(
    binaries: Path, folder: Path, ports: tuple[int, int], *more: str
) -> "subprocess.Popen[bytes]":
    command = [str(binaries / "chipmill"), "up", "--home", str(folder / "home"), *more]
    command += ["--prefect-port", str(ports[0]), "--port", str(ports[1])]
    # Read here and handed on: flow runs start in directories that have no such file.
    said = ("CHIPMILL_ARCHIVE=kept", "CHIPMILL_BUDGET=100MB", "CHIPMILL_LOCAL_SOURCES=true")
    (folder / ".env").write_text("\n".join(said))
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={
                "PATH": f"{binaries}:{os.defpath}",
                "HOME": str(folder),
                "PREFECT_WORKER_QUERY_SECONDS": "2",
            },
            stdout=log,
            stderr=log,
        )


def test_it_comes_up_with_a_secret_of_its_own(up: Up, wait_for: Wait) -> None:
    """Nobody has to choose a secret, and nobody else can read it."""
    wait_for("everything", lambda: up.is_said("Ctrl-C ends all of it"))
    kept = up.home / "secret.env"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(up.home.stat().st_mode) == 0o700
    assert "CHIPMILL_WEBHOOK_MASTER=whsec_" in kept.read_text()
    assert kept.read_text().partition("whsec_")[2][:20] not in up.log.read_text()
    assert httpx.get(f"http://127.0.0.1:{up.ports[1]}/readyz").status_code == 200
    assert "<div id=" in httpx.get(f"http://127.0.0.1:{up.ports[0]}/").text
    # Where the pages of the UI look for the API.
    said = httpx.get(f"http://127.0.0.1:{up.ports[0]}/ui-settings", follow_redirects=True)
    assert said.json()["api_url"] == up.api


def test_every_deployment_runs(up: Up, item_collection: Path, wait_for: Wait) -> None:
    """What the file names is found, loaded and run by a worker, as when the UI starts it."""
    wait_for("everything", lambda: up.is_said("Ctrl-C ends all of it"))
    request = {"sensor": "naip", "catalog": str(item_collection), "chip_size": 64}
    chips: Json = {"chip_size": 64}
    training: Json = chips | {"minibatch": 2, "few_scenes": True, "leftover": "spread"}
    ran = set[str]()

    def run(name: str, **parameters: object) -> str:
        found = up.ask("GET", f"/deployments/name/{name}/{name}")
        order: Json = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        made = up.ask("POST", f"/deployments/{found['id']}/create_flow_run", **order)
        ran.add(name)

        def ended() -> bool:
            state = up.ask("GET", f"/flow_runs/{made['id']}")["state"]
            assert state["type"] not in ("FAILED", "CRASHED", "CANCELLED"), state["message"]
            return state["type"] == "COMPLETED"

        wait_for(f"the end of {name}", ended)
        return str(made["id"])

    run("pipeline", requests=[request], training=training)
    (plan,) = {path.name for path in (up.home.parent / "kept" / "plans").iterdir()}
    run("ingest", request=request)
    run("merge", chip_size=64)
    run("tidy", keep=1)
    run("stats", request=chips)
    run("plan", request=training)
    run("stage", plan=plan)
    run("export", request={"plan": plan})
    with Ledger.open(f"sqlite:///{up.home / 'ledger.db'}") as ledger:
        ledger.begin_run("run", attempt=1, world=1, plan=plan)
        ledger.release_run("run")
    run("reconcile")
    run("cleanup", megabatch=f"{plan}-00000")
    run("reconcile")
    assert ran == {entry["name"] for entry in ENTRIES}


def test_a_program_that_dies_is_started_again(up: Up, wait_for: Wait) -> None:
    """A receiver that the system has killed must not stay away until somebody looks."""
    wait_for("everything", lambda: up.is_said("Ctrl-C ends all of it"))
    receiver = up.child("chipmill serve")
    assert receiver is not None
    receiver.kill()
    wait_for("the message", lambda: up.is_said("receiver has ended with -9"))

    def is_back() -> bool:
        found = up.child("chipmill serve")
        return found is not None and found.pid != receiver.pid

    wait_for("the receiver", is_back)


def test_at_the_end_nothing_is_left(up: Up, binaries: Path, wait_for: Wait) -> None:
    """It ends all that it has started and nothing else; the next start has the same secret."""
    wait_for("everything", lambda: up.is_said("Ctrl-C ends all of it"))
    other = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    before, kept = up.children(), (up.home / "secret.env").read_bytes()
    assert len(before) >= 3
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(180) == 0, up.log.read_text()
    _, alive = psutil.wait_procs(before, timeout=10)
    assert not alive
    assert other.poll() is None
    other.kill()
    other.wait()
    again = _start(binaries, up.home.parent, up.ports)
    try:
        wait_for("the next start", lambda: "starting prefect" in up.log.read_text())
        assert (up.home / "secret.env").read_bytes() == kept
    finally:
        again.send_signal(signal.SIGINT)
        assert again.wait(180) == 0


def test_a_secret_that_others_can_read_is_refused(
    binaries: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """One sentence, before anything starts; and likewise for a port that is taken."""
    (tmp_path / "home").mkdir()
    kept = tmp_path / "home" / "secret.env"
    kept.write_text("CHIPMILL_WEBHOOK_MASTER=\n")
    kept.chmod(0o644)
    ports = (free_port(), free_port())
    assert _start(binaries, tmp_path, ports).wait(120) == 1
    assert "others can read the secret" in (tmp_path / "log").read_text()
    kept.chmod(0o600)
    assert _start(binaries, tmp_path, ports).wait(120) == 1
    assert "is not CHIPMILL_WEBHOOK_MASTER=" in (tmp_path / "log").read_text()
    kept.unlink()
    with socket.create_server(("127.0.0.1", ports[0])):
        assert _start(binaries, tmp_path, ports).wait(120) == 1
    assert f"port {ports[0]} of this machine is taken" in (tmp_path / "log").read_text()
