"""Runs of a work pool start in a directory that goes: nothing may be kept there."""

import importlib
import inspect
import json
import subprocess
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import httpx
import pytest
import yaml

from chipmill.errors import RequestError
from chipmill.formats.server_file import PoolEntry
from chipmill.formats.webhook import encode_key
from chipmill.service.prefect_server import PrefectServer
from chipmill.service.up import Place, make_environment
from chipmill.settings import Settings

pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]

ROOT = Path(__file__).parents[2]
ENTRIES: list[dict[str, Any]] = yaml.safe_load((ROOT / "deployments/prefect.yaml").read_text())[
    "deployments"
]


class Server(Protocol):
    """The server of conftest.py."""

    api: str

    def ask(self, method: str, path: str, **body: object) -> Any: ...  # noqa: ANN401, D102
    def deployments(self) -> dict[str, dict[str, Any]]: ...  # noqa: D102


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start in an empty directory without a setting."""
    for name in ("ARCHIVE", "LEDGER", "FAST", "FSX_LINK", "BUDGET", "WEBHOOK_MASTER"):
        monkeypatch.delenv(f"CHIPMILL_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_worker_that_has_its_places_in_a_file_is_told_so(
    server: Server, item_collection: Path, binaries: Path, tmp_path: Path
) -> None:
    """A run that ended well would leave an archive and a ledger in a directory that is removed."""
    pool = PoolEntry(name="without-places")
    template = json.loads((ROOT / "deployments" / "pools" / "process.json").read_text())
    with httpx.Client(base_url=server.api) as client:
        PrefectServer(client).set_pool(pool, "process", template)
    deployed = server.deployments()["ingest"]
    said = {key: deployed[key] for key in ("flow_id", "entrypoint", "job_variables")}
    name = {"name": "without-places", "work_pool_name": pool.name}
    made = server.ask("POST", "/deployments/", **said, **name)["id"]
    request = {"sensor": "naip", "catalog": str(item_collection), "chip_size": 64}
    order: dict[str, Any] = {"parameters": {"request": request}, "state": {"type": "SCHEDULED"}}
    run = server.ask("POST", f"/deployments/{made}/create_flow_run", **order)["id"]
    (tmp_path / ".env").write_text(f"CHIPMILL_ARCHIVE={tmp_path / 'archive'}\n")
    subprocess.run(
        [str(binaries / "prefect"), "worker", "start", "--pool", pool.name, "--run-once"],
        env={
            "PATH": str(binaries),
            "HOME": str(tmp_path),
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_API_URL": server.api,
            "CHIPMILL_LEDGER": "sqlite:///ledger.db",
            "CHIPMILL_LOCAL_SOURCES": "true",
            "DO_NOT_TRACK": "1",
        },
        cwd=tmp_path,
        check=True,
        timeout=400,
    )
    state = server.ask("GET", f"/flow_runs/{run}")["state"]
    server.ask("DELETE", f"/deployments/{made}")
    assert state["type"] == "FAILED", state
    assert "CHIPMILL_ARCHIVE is not set, CHIPMILL_LEDGER is relative: a run" in state["message"]
    assert "environment that the worker is started with" in state["message"]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_every_flow_looks_first(
    entry: dict[str, Any], bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it does anything: its parameters are of no use here."""
    module, _, name = str(entry["entrypoint"]).rpartition(".")
    function = getattr(importlib.import_module(module), name).fn
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid4()))
    with pytest.raises(RequestError, match="CHIPMILL_ARCHIVE is not set"):
        function(**dict.fromkeys(inspect.signature(function).parameters))
    assert not list(bare.iterdir())


def test_what_env_says_reaches_all_programs_of_one_machine(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `chipmill up` flow runs start elsewhere: all of it is handed on, places as absolute."""
    said = {
        "CHIPMILL_ARCHIVE": "s3://team-archive/chipmill",
        "CHIPMILL_FAST": "nvme",
        "CHIPMILL_LEDGER": "sqlite:///books/ledger.db",
        "CHIPMILL_BUDGET": "2TB",
        "CHIPMILL_WEBHOOK_MASTER": encode_key(bytes(32)),
        "AWS_ACCESS_KEY_ID": "team",
    }
    for name in said:  # the environment wins, and the S3 server of other tests has words in it
        monkeypatch.delenv(name, raising=False)
    (bare / ".env").write_text("".join(f"{name}={value}\n" for name, value in said.items()))
    given = make_environment(Settings.load(), Place(home=bare / "home"))
    fixed = {
        "CHIPMILL_FAST": str(bare / "nvme"),
        "CHIPMILL_LEDGER": f"sqlite:///{bare}/books/ledger.db",
    }
    assert said | fixed == {name: given.get(name) for name in said}
    assert not (bare / "home" / "secret.env").exists()


@pytest.mark.parametrize(
    ("name", "value", "is_wrong"),
    [
        ("ARCHIVE", "archive", True),
        ("ARCHIVE", "/data/archive", False),
        ("ARCHIVE", "~/archive", False),
        ("ARCHIVE", "file:///data/archive", False),
        ("FAST", "./fast", True),
        ("FAST", "~/fast", False),
        ("LEDGER", "sqlite:///ledger.db", True),
        ("LEDGER", "sqlite+pysqlite:///ledger.db?timeout=9", True),
        ("LEDGER", "sqlite://", True),
        ("LEDGER", "sqlite:////data/ledger.db", False),
        ("LEDGER", "postgresql+psycopg://u:p@host/ledger", False),
        ("FSX_LINK", "fsx", True),
    ],
)
@pytest.mark.usefixtures("bare")
def test_what_is_relative(
    name: str, value: str, *, is_wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place is absolute, of another host, or of this directory only."""
    monkeypatch.setenv(f"CHIPMILL_{name}", value)
    wrong = {f"CHIPMILL_{name}": "is relative"} if is_wrong else {}
    assert Settings.load().unsettled() == wrong
