"""Talk to the demo's own Prefect server: start a flow, follow it, read what its tasks took."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, cast

import httpx

Json = dict[str, Any]


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

        Raises:
            SystemExit: It fails or takes longer than `patience` seconds.
        """
        told = set[str]()
        end = time.monotonic() + patience
        while time.monotonic() < end:
            state = self._json("GET", f"/flow_runs/{flow_run}")["state"]
            for task in self.task_runs():
                if task["state_type"] == "COMPLETED" and task["id"] not in told:
                    told.add(task["id"])
                    yield str(task["name"])
            if state["type"] == "COMPLETED":
                return
            if state["type"] in ("FAILED", "CRASHED", "CANCELLED"):
                raise SystemExit(f"the flow run ended {state['type']}: {state['message']}")
            time.sleep(0.5)
        raise SystemExit(f"the flow run did not end within {patience:.0f} s")

    def task_runs(self, *, since: datetime | None = None) -> list[Json]:
        """List task runs, oldest first."""
        body: Json = {"sort": "EXPECTED_START_TIME_ASC", "limit": 200}
        if since:
            body["task_runs"] = {"start_time": {"after_": since.isoformat()}}
        return cast("list[Json]", self._json("POST", "/task_runs/filter", json=body))

    def seconds(self, *, since: datetime) -> Counter[str]:
        """Add up the seconds of the task runs of each step."""
        total = Counter[str]()
        for task in self.task_runs(since=since):
            total[str(task["task_key"]).split(".")[-1].split("-")[0]] += task["total_run_time"]
        return total

    def unfinished(self) -> int:
        """Count the flow runs that have not ended."""
        states = {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}
        body = {"flow_runs": {"state": states}}
        return int(cast("Any", self._json("POST", "/flow_runs/count", json=body)))

    def _json(self, method: str, path: str, **arguments: object) -> Json:
        answer = self._http.request(method, path, **cast("Any", arguments))
        answer.raise_for_status()
        return cast("Json", answer.json())
