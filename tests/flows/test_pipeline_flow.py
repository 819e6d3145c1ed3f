"""The flows on a real Prefect server: what a person finds in the UI after a run."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.flows, pytest.mark.xdist_group("prefect")]

SCRIPT = """
import json, sys
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.plan_request import PlanRequest
from flows.pipeline import pipeline
asked = json.load(sys.stdin)
requests = [IngestRequest(**request) for request in asked["requests"]]
print(pipeline(requests, PlanRequest(**asked["training"])))
"""


@dataclass(frozen=True)
class Place:
    """Where one pipeline runs."""

    api: str
    folder: Path
    binaries: Path

    def run(self, asked: dict[str, Any], **more: str) -> subprocess.CompletedProcess[str]:
        """Run the flow `pipeline` in a process of its own, as a worker would."""
        return subprocess.run(
            [sys.executable, "-c", SCRIPT],
            input=json.dumps(asked),
            env=self.environment(**more),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,  # on a busy machine
        )

    def environment(self, **more: str) -> dict[str, str]:
        """Give the settings of a process that runs flows or tasks."""
        return {
            "PATH": str(self.binaries),
            "HOME": str(self.folder),
            "CHIPMILL_ARCHIVE": (self.folder / "archive").as_uri(),
            "CHIPMILL_FAST": str(self.folder / "fast"),
            "CHIPMILL_LEDGER": f"sqlite:///{self.folder / 'ledger.db'}",
            "CHIPMILL_BUDGET": "100MB",
            "CHIPMILL_LOCAL_SOURCES": "true",
            "PREFECT_API_URL": self.api,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_LOGGING_EXTRA_LOGGERS": "chipmill",
            "DO_NOT_TRACK": "1",
            **more,
        }

    def ask(self, what: str, **body: object) -> list[dict[str, Any]]:
        """Ask the server for things of one kind."""
        answer = httpx.post(f"{self.api}/{what}/filter", json=body, timeout=30)
        answer.raise_for_status()
        return cast("list[dict[str, Any]]", answer.json())

    def settled(self, plan: str) -> None:
        """Wait until the server has heard of everything: events and logs arrive with a lag."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            names = {run["name"] for run in self.ask("task_runs")}
            lines = [line["message"] for line in self.ask("logs", limit=200)]
            if f"stage {plan}" in names and any("staged" in line for line in lines):
                return
            time.sleep(0.5)
        pytest.fail(f"the server never heard of the run that staged {plan}")

    def artifact(self, key: str) -> list[dict[str, Any]]:
        """Read the newest table of a key."""
        found = self.ask("artifacts", artifacts={"key": {"any_": [key]}}, sort="CREATED_DESC")
        return cast("list[dict[str, Any]]", json.loads(found[0]["data"]))


@pytest.fixture(scope="module")
def place(prefect_api: str, binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Give an empty place whose flows report to the real server."""
    return Place(prefect_api, tmp_path_factory.mktemp("pipeline"), binaries)


@pytest.fixture(scope="module")
def asked(item_collection: Path, place: Place) -> dict[str, Any]:
    """Ask for the NAIP scenes and for one whose file is gone at the source."""
    items = json.loads(item_collection.read_text())["features"]
    naip = [item for item in items if item["collection"] == "naip"]
    gone = json.loads(json.dumps(naip[0]))
    gone["id"] = "gone"
    gone["assets"]["image"]["href"] = (place.folder / "gone.tif").as_uri()
    catalog = place.folder / "items.json"
    catalog.write_text(json.dumps({"type": "FeatureCollection", "features": [*naip, gone]}))
    return {
        "requests": [{"sensor": "naip", "catalog": str(catalog), "chip_size": 64}],
        "training": {
            "minibatch": 2,
            "few_scenes": True,
            "leftover": "spread",
            "chip_size": 64,
        },
    }


@pytest.fixture(scope="module")
def plan(place: Place, asked: dict[str, Any]) -> str:
    """Run the pipeline once and give the plan that it staged."""
    done = place.run(asked)
    assert done.returncode == 0, done.stderr
    plan = done.stdout.split()[-1]
    place.settled(plan)
    return plan


def test_runs_have_names_a_person_can_read(place: Place, plan: str) -> None:
    """A list of runs tells what each of them did, without opening it."""
    flows = {run["name"] for run in place.ask("flow_runs")}
    assert {"pipeline", "ingest naip", "plan epoch 0", f"stage {plan}"} <= flows
    tasks = {run["name"] for run in place.ask("task_runs")}
    for step in ("copy", "rewrite", "index"):
        assert f"{step} naip/m_4709963_se_14_1_20180716" in tasks
    assert {"search naip", "merge chips of 64 px", "plan latest epoch 0"} <= tasks


def test_artifacts_tell_what_was_done_and_left_out(place: Place, plan: str) -> None:
    """The summary counts every scene, and each scene that was left out has its reason."""
    (lost,) = place.artifact("quarantined-scenes")
    assert lost["scene"] == "naip/gone"
    assert lost["step"] == "copy"
    assert "gone.tif" in lost["why"]
    summary = {row["what"]: row["number"] for row in place.artifact("ingest-summary")}
    assert summary["scenes indexed"] == summary["assets copied"] > 0
    assert summary["scenes quarantined"] == 1
    assert summary["scenes over the limit"] == summary["areas with more than was read"] == 0
    assert summary["items that cannot be read"] == 0
    planned = place.artifact("plan-summary")
    assert sum(row["chips"] for row in planned) == summary["chips"]
    asked = {"key": {"any_": ["staging-progress"]}}
    bars = place.ask("artifacts", artifacts=asked)
    assert [bar["data"] for bar in bars] == [100.0] * len(bars) != []
    assert all(bar["task_run_id"] and "left" in bar["description"] for bar in bars)
    staged = place.artifact("fast-storage")
    assert [row["megabatch"] for row in staged] == [f"{plan}-00000"]


def test_a_finding_is_kept_in_the_archive(place: Place, plan: str) -> None:
    """What Prefect forgets, the archive still knows."""
    finding = json.loads((place.folder / "archive/findings/naip/gone.json").read_text())
    assert finding["kind"] == "quarantined"
    assert "missing at its source" in finding["reason"]


def test_the_log_of_a_run_has_the_librarys_lines(place: Place, plan: str) -> None:
    """Who opens a run in the UI sees what the library did, not only that it began and ended."""
    lines = [line["message"] for line in place.ask("logs", limit=200)]
    assert any("chips indexed" in line for line in lines)
    assert any("megabatches" in line and plan in line for line in lines)


def test_a_rerun_does_nothing_again(place: Place, asked: dict[str, Any], plan: str) -> None:
    """Copies are skipped, the plan is the same, and the megabatch that is staged stays."""
    done = place.run(asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == plan
    summary = {row["what"]: row["number"] for row in place.artifact("ingest-summary")}
    assert summary["assets copied"] == 0
    assert summary["assets there already"] == summary["scenes indexed"]
    assert place.artifact("fast-storage") == []


def test_dask_gives_the_same_archive(
    place: Place, asked: dict[str, Any], plan: str, tmp_path: Path
) -> None:
    """The work moves to other processes by one setting; what comes out has the same name."""
    elsewhere = Place(place.api, tmp_path, place.binaries)
    settings = {"CHIPMILL_TASK_RUNNER": "dask", "CHIPMILL_TASKS_AT_ONCE": "2"}
    done = elsewhere.run(asked, **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == plan
    finding = json.loads((tmp_path / "archive/findings/naip/gone.json").read_text())
    assert finding["kind"] == "quarantined"


def test_a_dask_scheduler_elsewhere_is_named_by_its_address(
    place: Place,
    asked: dict[str, Any],
    plan: str,
    tmp_path: Path,
    free_port: Callable[[], int],
    full: bool,  # noqa: FBT001  # pytest gives it by name
) -> None:
    """A team's own cluster does the work; only `--full` takes the time to start one."""
    if not full:
        pytest.skip("a cluster takes its time to start; --full has it")
    elsewhere = Place(place.api, tmp_path, place.binaries)
    address = f"tcp://127.0.0.1:{free_port()}"
    commands = [
        ["scheduler", "--host", address, "--no-dashboard"],
        [
            "worker",
            address,
            "--nthreads",
            "1",
            "--no-dashboard",
            "--local-directory",
            str(tmp_path),
        ],
    ]
    with ExitStack() as cluster, (tmp_path / "dask.log").open("w") as log:
        for command in commands:
            process = cluster.enter_context(
                subprocess.Popen(
                    [str(place.binaries / "dask"), *command],
                    env=elsewhere.environment(PYTHONPATH=str(ROOT)),
                    stdout=log,
                    stderr=log,
                )
            )
            cluster.callback(process.terminate)
        done = elsewhere.run(asked, CHIPMILL_TASK_RUNNER=address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == plan
    assert "Starting established connection" in (tmp_path / "dask.log").read_text()


def test_a_wrong_request_fails_with_one_sentence(
    place: Place, asked: dict[str, Any], plan: str
) -> None:
    """The state of the failed run says what broke and what there is instead."""
    wrong = asked["requests"][0] | {"sensor": "sentinel-9"}
    done = place.run(asked | {"requests": [wrong]})
    assert done.returncode != 0
    failed = place.ask("flow_runs", flow_runs={"state": {"type": {"any_": ["FAILED"]}}})
    messages = [str(run["state"]["message"]) for run in failed]
    assert any("there is no sensor 'sentinel-9'; known are" in text for text in messages)
