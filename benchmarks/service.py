"""The receiver: messages a second of one core, and from a report to the start of its cleanup.

python -m benchmarks.service
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import httpx
import psutil
from prefect import flow

from benchmarks.measure import say_machine
from chipmill.formats.webhook import MegabatchCompleted, encode_key, headers
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import megabatch_id
from chipmill.service.keys import run_key

MASTER = bytes(range(32))
PLAN = "0123456789abcdef"
MESSAGES = 1000
AT_ONCE = 16
LATENCIES = 3
PATIENCE = 180.0
BIN = Path(sys.executable).parent


@flow(name="cleanup", log_prints=False)
def cleanup(megabatch: str) -> str:
    """Do nothing: only its start is measured."""
    return megabatch


def main() -> None:
    """Print both."""
    if sys.argv[1:2] == ["flow"]:
        cleanup.serve(name="cleanup")
        return
    say_machine()
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        throughput(Path(folder))
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        latency(Path(folder))


def throughput(folder: Path) -> None:
    """Post reports to a receiver that has one core; compare with the ledger's own transactions."""
    url = ledger_of(folder, megabatches=1, world=10 * MESSAGES)
    with receiver(url, folder, core=0) as (port, process):
        before, began = cpu(process), time.perf_counter()
        asyncio.run(post_all(port, [message(0, rank, 10 * MESSAGES) for rank in range(MESSAGES)]))
        took, used = time.perf_counter() - began, cpu(process) - before
    with Ledger.open(url) as ledger:
        mine, began = time.process_time(), time.perf_counter()
        for rank in range(MESSAGES, 2 * MESSAGES):
            body = message(0, rank, 10 * MESSAGES)
            parsed = MegabatchCompleted.model_validate_json(body)
            ledger.complete(f"m-{rank}", body, message=parsed)
        alone, floor = time.perf_counter() - began, time.process_time() - mine
    print(
        f"receiver {MESSAGES / took:6.0f} reports/s, {1e3 * used / MESSAGES:.2f} ms of CPU each; "
        f"the ledger alone {MESSAGES / alone:6.0f}/s, {1e3 * floor / MESSAGES:.2f} ms; "
        f"ratio of CPU {used / floor:.2f}",
        flush=True,
    )


def latency(folder: Path) -> None:
    """Report megabatches one by one; ask Prefect when their cleanups were made and started."""
    url = ledger_of(folder, megabatches=LATENCIES, world=1)
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": api}
    server = [str(BIN / "prefect"), "server", "start", "--no-ui", "--port", str(port)]
    serving = [sys.executable, "-m", "benchmarks.service", "flow"]
    with (
        running(server, environment, folder / "server.log"),
        httpx.Client(base_url=api, timeout=30) as prefect,
    ):
        wait_for(prefect, "/health")
        with running(serving, environment, folder / "flow.log"):
            wait_for(prefect, "/deployments/name/cleanup/cleanup")
            with receiver(url, folder, api=api) as (receiving, _):
                pairs = [one_latency(prefect, receiving, number) for number in range(LATENCIES)]
    made, started = zip(*pairs, strict=True)
    print(
        f"POST to flow run made {median(made):.2f} s (at most {max(made):.2f}), to its start "
        f"{median(started):.1f} s (at most {max(started):.1f}), by a served flow",
        flush=True,
    )


def one_latency(prefect: httpx.Client, port: int, number: int) -> tuple[float, float]:
    """Report one megabatch; gives the seconds until its flow run was made, and was running."""
    began = time.time()
    asyncio.run(post_all(port, [message(number, 0, 1)]))
    key = f"cleanup-{megabatch_id(PLAN, number)}-g1"
    wanted = {"flow_runs": {"idempotency_key": {"any_": [key]}}}
    deadline = time.monotonic() + PATIENCE
    made = 0.0
    while time.monotonic() < deadline:
        for found in prefect.post("/flow_runs/filter", json=wanted).json():
            made = made or time.time() - began
            if found["start_time"]:
                return made, time.time() - began
        time.sleep(0.05)
    raise SystemExit(f"the cleanup of megabatch {number} did not start in {PATIENCE:.0f} s")


def ledger_of(folder: Path, *, megabatches: int, world: int) -> str:
    """Make a ledger whose megabatches are all in use by one run."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    with Ledger.open(url) as ledger:
        ledger.register_plan(PLAN, "{}", needs=[1] * megabatches)
        for number in range(megabatches):
            name = megabatch_id(PLAN, number)
            fence = ledger.claim_staging(name, budget=megabatches, worker="w")
            ledger.ready(name, fence, size=1)
        ledger.begin_run("run", attempt=1, world=world, plan=PLAN)
        for row in ledger.pending():
            ledger.sent(row.id, "not wanted here")
    return url


def message(number: int, rank: int, world: int) -> bytes:
    """Write a report."""
    data = {"megabatch": megabatch_id(PLAN, number), "run": "run", "attempt": 1, "rank": rank}
    data |= {"world": world, "epoch": 0, "minibatches": 7, "checkpoint": None}
    said = {"type": "megabatch.completed", "timestamp": "2026-01-01T00:00:00Z", "data": data}
    return json.dumps(said).encode()


async def post_all(port: int, bodies: list[bytes]) -> None:
    """Post bodies over a few connections that stay open."""
    queue = list(enumerate(bodies))
    key = run_key(MASTER, "run")
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=60
    ) as client:

        async def work() -> None:
            while queue:
                number, body = queue.pop()
                name = f"b-{time.time_ns()}-{number}"
                signed = headers(
                    key, run="run", message_id=name, timestamp=int(time.time()), body=body
                )
                answer = await client.post("/v1/megabatch-complete", content=body, headers=signed)
                answer.raise_for_status()

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


@contextmanager
def receiver(
    url: str, folder: Path, *, api: str = "http://127.0.0.1:9/api", core: int | None = None
) -> Generator[tuple[int, psutil.Process]]:
    """Start a receiver, on one core if asked for; gives its port and its process."""
    port = free_port()
    environment = {
        "CHIPMILL_LEDGER": url,
        "CHIPMILL_WEBHOOK_MASTER": encode_key(MASTER),
        "PREFECT_API_URL": api,
    }
    command = [str(BIN / "chipmill"), "serve", "--port", str(port)]
    with running(command, environment, folder / "receiver.log") as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            wait_for(client, "/healthz")
        found = psutil.Process(process.pid)
        if core is not None:
            for thread in found.threads():  # threads that come later take it from these
                os.sched_setaffinity(thread.id, {core})
        yield port, found


@contextmanager
def running(
    command: list[str], environment: Mapping[str, str], log: Path
) -> Generator[subprocess.Popen[bytes]]:
    """Run a process until the block ends."""
    known = {"PATH": os.defpath, "HOME": str(log.parent), "DO_NOT_TRACK": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=known | dict(environment), stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_for(client: httpx.Client, path: str) -> None:
    """Wait until a path answers 200."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):  # it is not up yet
            if client.get(path).is_success:
                return
        time.sleep(0.1)
    raise SystemExit(f"{client.base_url}{path} did not answer in {PATIENCE:.0f} s")


def free_port() -> int:
    """Find a port of loopback where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def cpu(process: psutil.Process) -> float:
    """Give the seconds of CPU that a process has used."""
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
