# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""What Prefect costs when thousands of scenes go from search to index.

    python -m benchmarks.scale 1000 10000 30000

Each number of scenes goes twice through the same steps in the same shards, into empty archives: by
the flow `ingest` on a Prefect server of its own, and by plain threads. The scenes are synthetic
items of tiny files, so that nearly all of the difference is Prefect's.

With `--together` both go at the same time: half the wait, for seconds of CPU alone.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import rasterio
from rasterio.transform import from_origin

from benchmarks.measure import say_machine
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.ingest_request import IngestRequest
from chipmill.settings import Settings
from chipmill.steps.ingest import copying, indexing, rewriting
from chipmill.steps.search import search_scenes
from chipmill.steps.shard import Shard, each_scene, into_shards

ROOT = Path(__file__).parents[1]
EDGE = 64
LIMIT = 0.1 * 3600 * 2
"""Seconds of CPU: a tenth of an hour of two cores."""
FLOW = "from benchmarks.scale import request; from flows.ingest import ingest; ingest(request())"
PLAIN = "from benchmarks.scale import plain; plain()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took."""

    wall: float
    cpu: float
    """Both in seconds."""


def main() -> None:
    """Print a line for each number of scenes, and how what Prefect costs grows with it."""
    counts = [int(word) for word in sys.argv[1:] if word.isdigit()] or [1000]
    before: tuple[int, Overhead] | None = None
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
            cost = measure(Path(folder), count, together="--together" in sys.argv)
        if before:
            less, smaller = before
            print(
                f"{less} to {count} scenes: {count / less:.1f} times the scenes, "
                f"{cost.cpu / smaller.cpu:.1f} times Prefect's CPU, "
                f"{(cost.memory - smaller.memory) / 2**20:+.0f} MiB of the server's memory",
                flush=True,
            )
        before = count, cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """What Prefect cost."""

    cpu: float
    """Seconds, of the server and of the flow above plain threads."""
    memory: int
    """Bytes of the server at most."""


def measure(folder: Path, count: int, *, together: bool) -> Overhead:
    """Let so many scenes go through both ways and print what they took."""
    write_scenes(folder, count)
    with ThreadPoolExecutor(1) as beside, prefect_server(folder / "server") as (api, server):
        plain = beside.submit(run, PLAIN, folder / "plain", folder, api="http://127.0.0.1:1/api")
        if not together:
            plain.result()
        began = server.cpu()
        flow = run(FLOW, folder / "flow", folder, api=api)
        cpu, peak = server.cpu() - began, server.peak()
        known = server.task_runs(api)
        bare = plain.result()
    overhead = flow.cpu + cpu - bare.cpu
    print(
        f"{count:>6} scenes   plain {bare.wall:7.1f} s   flow {flow.wall:7.1f} s   "
        f"Prefect's CPU {overhead:6.1f} s (server {cpu:6.1f} s), {overhead / LIMIT:.0%} of the "
        f"limit of {LIMIT:.0f} s, server's memory {peak / 2**20:5.0f} MiB, {known} task runs",
        flush=True,
    )
    return Overhead(cpu=overhead, memory=peak)


def request() -> IngestRequest:
    """Ask for all scenes of the catalogue that this process was told of."""
    return IngestRequest(
        sensor="sentinel-2-l2a",
        catalog=str(Path.cwd() / "items.json"),
        bands=("red",),
        chip_size=16,
        limit=10**7,
    )


def plain() -> None:
    """Take the same steps in the same shards, without Prefect."""
    settings = Settings.load()
    archive, asked = Store.open(settings.archive), request()
    shards = into_shards(search_scenes(asked, archive))
    access = Access.of(settings, local=True)
    copy = copying(asked, archive, at_once=settings.copies_at_once, access=access)
    steps = {"copy": copy, "rewrite": rewriting(asked, archive), "index": indexing(asked, archive)}

    def through(shard: Shard) -> Shard:
        for step, work in steps.items():
            shard = each_scene(shard, work, step=step, archive=archive)
        return shard

    with ThreadPoolExecutor(settings.tasks_at_once) as pool:
        done = list(pool.map(through, shards))
    assert not [finding for shard in done for finding in shard.findings]  # noqa: S101


def run(code: str, place: Path, folder: Path, *, api: str) -> Cost:
    """Run one way in a process of its own."""
    place.mkdir()
    environment = {
        **os.environ,  # noqa: TID251  # the child needs this Python's
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        "CHIPMILL_ARCHIVE": (place / "archive").as_uri(),
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(place / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }
    began = time.perf_counter()
    with (place / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-c", code], cwd=folder, env=environment, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit((place / "log").read_text()[-3000:])
    wall = time.perf_counter() - began
    return Cost(wall=wall, cpu=usage.ru_utime + usage.ru_stime)


class Server:
    """A Prefect server and what it takes, its child processes included."""

    def __init__(self, process: psutil.Process) -> None:
        """Watch a process."""
        self._process = process

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self._all())

    def peak(self) -> int:
        """Bytes that its processes held in memory at most, together."""
        return sum(_peak(each.pid) for each in self._all())

    def task_runs(self, api: str) -> int:
        """Count the task runs that it knows, when no more come in."""
        before = -1
        while (now := _count(api)) != before:
            before = now
            time.sleep(5)
        return now

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _count(api: str) -> int:
    return int(httpx.post(f"{api}/task_runs/count", json={}, timeout=120).json())


@contextmanager
def prefect_server(home: Path) -> Generator[tuple[str, Server]]:
    """Start a Prefect server of this run, on SQLite."""
    home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}  # noqa: TID251
    environment["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    program = str(Path(sys.executable).parent / "prefect")
    with (home / "log").open("wb") as log:
        child = subprocess.Popen(
            [program, "server", "start", "--no-ui", "--port", port],
            env=environment,
            stdout=log,
            stderr=log,
        )
    api = f"http://127.0.0.1:{port}/api"
    try:
        _wait(api)
        yield api, Server(psutil.Process(child.pid))
    finally:
        child.terminate()
        child.wait()


def _wait(api: str) -> None:
    while True:
        try:
            httpx.get(f"{api}/health", timeout=1).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.5)
        else:
            return


def write_scenes(folder: Path, count: int) -> None:
    """Write the items of so many scenes, all of the same two small files."""
    pixels = np.random.default_rng(0).integers(1, 5000, (EDGE, EDGE), dtype=np.uint16)
    _write(folder / "red.tif", pixels, 10)
    _write(folder / "scl.tif", np.full((EDGE // 2, EDGE // 2), 4, np.uint8), 20)
    features = [_item(number) for number in range(count)]
    document = {"type": "FeatureCollection", "features": features}
    (folder / "items.json").write_text(json.dumps(document))


def _item(number: int) -> dict[str, Any]:
    corners = [[15, 46.9], [15.02, 46.9], [15.02, 46.95], [15, 46.95], [15, 46.9]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"S2A_{number:06}",
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "bbox": [15, 46.9, 15.02, 46.95],
        "properties": {
            "datetime": f"2024-06-01T10:{number // 60 % 60:02}:{number % 60:02}Z",
            "platform": "sentinel-2a",
        },
        "links": [],
        "assets": {name: {"href": f"{name}.tif", "type": "image/tiff"} for name in ("red", "scl")},
    }


def _write(path: Path, pixels: "np.ndarray[Any, np.dtype[Any]]", size: float) -> None:
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=1,
        dtype=pixels.dtype,
        crs="EPSG:32633",
        transform=from_origin(500_000, 5_200_000, size, size),
        compress="deflate",
    ) as file:
        file.write(pixels, 1)


if __name__ == "__main__":
    say_machine()
    main()
