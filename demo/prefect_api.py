"""Talk to the demo's own Prefect server: start a flow, follow it, read what its tasks took."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import httpx

Json = dict[str, Any]
_SUBFLOW = re.compile(r"\w+-\d+")
"""How Prefect names the task run that stands for a subflow: `ingest-0`."""


class Prefect:
    """The REST API of one server."""

    def __init__(self, api: str) -> None:
        """Talk to `http://host:port/api`."""
        self._http = httpx.Client(base_url=api, timeout=30)

    def start(self, deployment: str, parameters: Mapping[str, object]) -> str:
        """Start a deployment (`flow/name`); gives the id of the flow run."""
        found = self._json("GET", f"/deployments/name/{deployment}")
        run = self._json(
            "POST",
            f"/deployments/{found['id']}/create_flow_run",
            json={"parameters": parameters, "state": {"type": "SCHEDULED"}},
        )
        return str(run["id"])

    def follow(self, flow_run: str, *, patience: float = 300) -> Iterator[str]:
        """Name the task runs below a flow run as they complete, until it ends.

        The server learns of task runs by events, with a lag: the last of them may not be named.

        Raises:
            SystemExit: It fails or takes longer than `patience` seconds.
        """
        told, since = set[str](), datetime.now(UTC)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            run = self._json("GET", f"/flow_runs/{flow_run}")
            for task in self.task_runs(since=since):
                if task["state_type"] == "COMPLETED" and task["id"] not in told:
                    told.add(task["id"])
                    if not _SUBFLOW.fullmatch(str(task["name"])):
                        yield str(task["name"])
            if run["state_type"] == "COMPLETED":
                return
            if run["state_type"] in ("FAILED", "CRASHED", "CANCELLED"):
                state = cast("Json | None", run["state"]) or {}
                raise SystemExit(f"the flow run ended {run['state_type']}: {state.get('message')}")
            time.sleep(0.5)
        raise SystemExit(f"the flow run did not end within {patience:.0f} s")

    def task_runs(self, *, since: datetime) -> list[Json]:
        """List the task runs that started since then, oldest first."""
        started = {"start_time": {"after_": since.isoformat()}}
        body = {"sort": "EXPECTED_START_TIME_ASC", "limit": 200, "task_runs": started}
        return cast("list[Json]", self._json("POST", "/task_runs/filter", json=body))

    def seconds(self, *, since: datetime) -> Counter[str]:
        """Add up the seconds of the task runs of each step."""
        total = Counter[str]()
        for task in self.task_runs(since=since):
            total[str(task["task_key"]).split(".")[-1].split("-")[0]] += task["total_run_time"]
        return total

    def unfinished(self, *, since: datetime) -> int:
        """Count the flow runs that began since then and have not ended, but for schedules."""
        states = {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}
        begun = {"after_": since.isoformat()}
        asked = {"flow_runs": {"state": states, "expected_start_time": begun}, "limit": 200}
        runs = cast("list[Json]", self._json("POST", "/flow_runs/filter", json=asked))
        return sum(not run["auto_scheduled"] for run in runs)

    def _json(self, method: str, path: str, **arguments: object) -> Json:
        answer = self._http.request(method, path, **cast("Any", arguments))
        answer.raise_for_status()
        return cast("Json", answer.json())
