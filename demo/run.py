"""The whole way on real scenes: catalogue → archive → index → fast storage → training → webhook.

Run by `make demo`; everything lives in `.demo`. A second run skips what is done and trains the next
epoch. With `--keep` the Prefect UI stays up until Ctrl-C.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from prefect_api import Prefect
from summary import print_summary

from chipmill.errors import TransientError
from chipmill.formats.webhook import decode_key, encode_key
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State
from chipmill.service.keys import run_key
from chipmill.service.processes import Program, Running

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent
SCENES = ROOT / "demo" / "scenes"
HOME = ROOT / ".demo"
CHIP_SIZE = 64
"""Pixels: the real scenes in this repository are reduced, so that they are small to download."""


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="chipmill's demo")
    parser.add_argument("--keep", action="store_true", help="keep the Prefect UI up at the end")
    keep = parser.parse_args().keep
    began = time.monotonic()
    since = datetime.now(UTC)
    HOME.mkdir(exist_ok=True)
    (HOME / "logs").mkdir(exist_ok=True)
    with ExitStack() as stack:
        env, catalog, prefect = start_services(stack)
        epoch = next_epoch(env)
        say(began, f"running the flow `pipeline` for epoch {epoch}")
        plan = run_pipeline(env, prefect, catalog, epoch)
        say(began, f"training on plan {plan}, one webhook for each megabatch")
        train(env, plan, epoch)
        say(began, "waiting for the cleanup that the receiver started")
        wait_for_cleanup(env, plan, prefect, since=since)
        print_summary(
            archive=env["CHIPMILL_ARCHIVE"],
            plan=plan,
            home=HOME,
            seconds=prefect.seconds(since=since),
        )
        print(f"\n    in {time.monotonic() - began:.0f} s; Prefect ran at {ui(env)}", flush=True)
        if keep:
            print(f"    the Prefect UI is at {ui(env)} until you press Ctrl-C", flush=True)
            wait_for_interrupt()
        else:
            print("    look at the runs with: make demo KEEP=1", flush=True)


def say(began: float, what: str) -> None:
    """Tell what comes next, with the seconds since the start."""
    print(f"==> {time.monotonic() - began:5.1f} s  {what}", flush=True)


def start_services(stack: ExitStack) -> tuple[dict[str, str], str, Prefect]:
    """Start a STAC API, Prefect with a worker, and the receiver; all on loopback."""
    began = time.monotonic()
    logs = HOME / "logs"
    api_port, stac_port, receiver_port = free_port(), free_port(), free_port()
    env = environment(api_port, receiver_port)
    say(began, "starting a STAC API, a Prefect server and the receiver")

    def start(name: str, *command: str, answers: str | None = None) -> Running:
        log = logs / f"{name}.log"
        running = Running.start(
            Program(name=name, command=command, environment=env, log=log, answers=answers)
        )
        stack.callback(running.stop)
        running.wait_until_up()
        return running

    catalog = f"http://127.0.0.1:{stac_port}"
    items = HOME / "items.json"
    items.write_text(json.dumps(item_collection()))
    address = f"127.0.0.1:{stac_port}"
    rustac = (f"{BIN}/rustac", "serve", "--create-collections", "-a", address, str(items))
    start("stac", *rustac, answers=catalog)
    api = env["PREFECT_API_URL"]
    server = (f"{BIN}/prefect", "server", "start", "--port", str(api_port))
    start("prefect", *server, answers=f"{api}/health")
    receiver = (f"{BIN}/chipmill", "serve", "--port", str(receiver_port))
    start("receiver", *receiver, answers=f"{env['CHIPMILL_RECEIVER']}/healthz")
    say(began, "deploying the flows")
    start("deploy", f"{BIN}/chipmill", "deploy").wait_until_done()
    start("worker", f"{BIN}/prefect", "worker", "start", "--pool", "chipmill")
    return env, catalog, Prefect(api)


def free_port() -> int:
    """Find a free port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(api_port: int, receiver_port: int) -> dict[str, str]:
    """Say where everything is; what a team would put into its own environment."""
    secret = HOME / "webhook-master"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(encode_key(secrets.token_bytes(32)))
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}  # noqa: TID251
    return inherited | {
        "CHIPMILL_ARCHIVE": (HOME / "archive").as_uri(),
        "CHIPMILL_FAST": str(HOME / "fast"),
        "CHIPMILL_BUDGET": "24MB",
        "CHIPMILL_LEDGER": f"sqlite:///{HOME / 'ledger.db'}",
        "CHIPMILL_RECEIVER": f"http://127.0.0.1:{receiver_port}",
        "CHIPMILL_WEBHOOK_MASTER": secret.read_text(),
        # The demo's catalogue is an API on loopback whose files lie on this machine.
        "CHIPMILL_LOCAL_SOURCES": "true",
        "PREFECT_HOME": str(HOME / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{api_port}/api",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "chipmill",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(HOME / "ui"),
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{api_port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def item_collection() -> dict[str, object]:
    """Gather the items that the STAC API serves, with absolute hrefs."""
    items: list[object] = []
    for collection in ("sentinel-2-l2a", "naip"):
        for path in sorted((SCENES / collection).glob("*.json")):
            item = json.loads(path.read_text())
            for asset in item["assets"].values():
                asset["href"] = (path.parent / asset["href"]).as_uri()
            items.append(item)
    return {"type": "FeatureCollection", "features": items}


def next_epoch(env: dict[str, str]) -> int:
    """Count the plans that are trained and freed: the next run trains the epoch after them."""
    with Ledger.open(env["CHIPMILL_LEDGER"]) as ledger:
        left: dict[str, bool] = {}
        for row in ledger.megabatches():
            left[row.plan] = left.get(row.plan, False) or row.state is not State.REMOVED
    return sum(not unfinished for unfinished in left.values())


def run_pipeline(env: dict[str, str], prefect: Prefect, catalog: str, epoch: int) -> str:
    """Ingest the scenes, plan two megabatches of them and stage the first; gives the plan."""
    landsat = SCENES / "landsat-c2l2-sr" / "LC08_L2SP_005009_20150710_T2.json"
    requests = [
        # A desert tile, and an alpine one on two days: a wedge without data, and clouds.
        {
            "sensor": "sentinel-2-l2a",
            "catalog": catalog,
            "bbox": [-20, 20, 20, 50],
            "period": "2020-01-01/2023-12-31",
            "bands": ["blue", "green", "red"],
        },
        # An item of 2015 that was written in STAC 0.7, straight from its file.
        {
            "sensor": "landsat-c2l2-sr",
            "catalog": str(landsat),
            "bands": ["blue", "green", "red", "nir08"],
        },
        {"sensor": "naip", "catalog": catalog},
    ]
    training = {
        "minibatch": 2,
        "megabatch": 4,
        "seed": 10,
        "few_scenes": True,
        "leftover": "spread",
        "epoch": epoch,
        "chip_size": CHIP_SIZE,
    }
    flow_run = prefect.start(
        "pipeline/pipeline",
        {
            "requests": [request | {"chip_size": CHIP_SIZE} for request in requests],
            "training": training,
        },
    )
    for name in prefect.follow(flow_run):
        print(f"    {name}", flush=True)
    with Ledger.open(env["CHIPMILL_LEDGER"]) as ledger:
        return next(row.plan for row in ledger.megabatches() if row.state is not State.REMOVED)


def train(env: dict[str, str], plan: str, epoch: int) -> None:
    """Run the training loop as a process that knows its run key and not the master."""
    name = f"demo-epoch-{epoch}"
    with Ledger.open(env["CHIPMILL_LEDGER"]) as ledger:
        attempts = [known.attempt for known in ledger.runs(plan) if known.id == name]
    key = encode_key(run_key(decode_key(env["CHIPMILL_WEBHOOK_MASTER"]), name))
    trainer = {k: v for k, v in env.items() if k != "CHIPMILL_WEBHOOK_MASTER"}
    asked = {
        "plan": plan,
        "run": name,
        "attempt": str(max(attempts, default=0) + 1),
        "folder": str(HOME),
    }
    command = [sys.executable, str(ROOT / "demo" / "train.py")]
    command += [part for key_, value in asked.items() for part in (f"--{key_}", value)]
    subprocess.run(command, env=trainer | {"CHIPMILL_WEBHOOK_KEY": key}, check=True)


def wait_for_cleanup(env: dict[str, str], plan: str, prefect: Prefect, *, since: datetime) -> None:
    """Wait until the cleanup flows have freed every megabatch and no flow run is left."""
    told = set[str]()
    end = time.monotonic() + 180
    with Ledger.open(env["CHIPMILL_LEDGER"]) as ledger:
        while time.monotonic() < end:
            rows = ledger.megabatches(plan)
            for row in rows:
                if row.state is State.REMOVED and row.id not in told:
                    told.add(row.id)
                    print(f"    {row.id} is removed, {ledger.reserved():,} bytes are reserved")
            if len(told) == len(rows) and prefect.unfinished(since=since) == 0:
                return
            time.sleep(0.5)
    raise SystemExit(f"the cleanup did not end; see {HOME / 'logs' / 'worker.log'}")


def ui(env: dict[str, str]) -> str:
    """Give the address of the Prefect UI."""
    return env["PREFECT_API_URL"].removesuffix("/api")


def wait_for_interrupt() -> None:
    """Wait for Ctrl-C."""
    while True:
        time.sleep(3600)


def end(_number: int, _frame: object) -> None:
    """End as by Ctrl-C, so that everything that was started is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    os.chdir(ROOT)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, end)
    try:
        main()
    except KeyboardInterrupt:
        print("\n    everything that was started is stopped", flush=True)
    except TransientError as err:
        raise SystemExit(str(err)) from err
