"""An ingest that is killed at any moment goes on where it was, and ends in the same archive."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from chipmill.formats import layout
from chipmill.formats.provenance import decode_record
from chipmill.formats.snapshot import Snapshot, decode_snapshot
from chipmill.io.store import Store
from tests.archive.ranged_server import RangedServer, serving

SCRIPT = Path(__file__).with_name("ingest_worker.py")
KILLS = 50
BANDS = "red,rededge1,nir08,swir16"
SCENE = "S2A_29RKH_20200219_0_L2A"


class Worker:
    """A process that forks ingests, which can be killed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Speak with a running worker."""
        self._process = process

    def ingest(self, archive: Store, *, kill_after: float | None = None) -> bool:
        """Ingest; tells whether it came to its end before it was killed."""
        pid = int(self._said(archive.url))
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pid, signal.SIGKILL)
        status = int(self._said("reap"))
        assert status in (0, signal.SIGKILL), "an ingest failed"
        return status == 0

    def _said(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@pytest.fixture
def provider(scenes: Path) -> Iterator[RangedServer]:
    """Serve the demo's Sentinel-2 scenes."""
    with serving(scenes / "sentinel-2-l2a") as server:
        yield server


@pytest.fixture
def worker(provider: RangedServer, tmp_path: Path) -> Iterator[Worker]:
    """Start a worker on one scene whose files the provider serves."""
    item = json.loads((provider.folder / f"{SCENE}.json").read_text())
    for asset in item["assets"].values():
        asset["href"] = f"{provider.url}/{asset['href']}"
    catalog = tmp_path / "item.json"
    catalog.write_text(json.dumps(item))
    with _started(str(catalog)) as worker:
        yield worker


@contextmanager
def _started(catalog: str) -> Generator[Worker]:
    command = [sys.executable, str(SCRIPT), catalog, "sentinel-2-l2a", BANDS]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        yield Worker(process)
        process.stdin.close()


def content(archive: Store) -> dict[str, object]:
    """Give what the archive holds: bytes, but for the times at which it was made.

    A record and an item say when an asset was copied, a list of scenes and a snapshot when they
    were made, a snapshot also which version of a part it has read, which in a directory is a time.
    The files of a snapshot have names that nobody had before; those of a merge that was killed
    belong to none, and a probe of the store that it left is taken for garbage later.
    """
    found: dict[str, object] = {}
    for key in archive.keys(""):
        data = archive.get(key)
        if key.startswith(layout.PROBES):
            continue
        if key.startswith("provenance/assets/"):
            found[key] = decode_record(data, where=key).model_dump(exclude={"copied"})
        elif key.startswith("items/") and b'"Feature"' in data:
            found[key] = _timeless(json.loads(data))
        elif key.startswith("searches/") and key.endswith(".json"):
            found[key] = {k: v for k, v in json.loads(data).items() if k != "searched"}
        elif key.startswith(("index/snapshots/", "index/heads/")):
            if key.endswith(".json"):
                found[key] = _index(archive, decode_snapshot(data, where=key))
        else:
            found[key] = data
    return found


def _timeless(item: dict[str, Any]) -> dict[str, Any]:
    del item["properties"]["processing:datetime"]
    for asset in item["assets"].values():
        del asset["created"]
    return item


def _index(archive: Store, snapshot: Snapshot) -> list[object]:
    rows = [
        parquet.read_table(BytesIO(archive.get(key))).drop_columns(without).to_pylist()
        for files, without in (
            (snapshot.chip_files, []),
            (snapshot.scene_files, ["part"]),
            (snapshot.provenance_files, ["copied"]),
        )
        for key in files
    ]
    files = {"created", "chip_files", "scene_files", "provenance_files"}
    return [snapshot.model_dump(exclude=files), *rows]


def recorded(archive: Store) -> set[str]:
    """Name the files at the provider that have a verified record."""
    return {
        decode_record(archive.get(key), where=key).source.rpartition("/")[2]
        for key in archive.keys("provenance/assets/")
    }


def asked(provider: RangedServer) -> Counter[str]:
    """Count what the provider was asked for, by the name of the file."""
    return Counter({name.rpartition("/")[2]: n for name, n in provider.asked.items()})


def test_kills_change_nothing(provider: RangedServer, worker: Worker, tmp_path: Path) -> None:
    """Fifty kills at random moments: the archive of an undisturbed run, nothing fetched twice."""
    place = tmp_path / "archive"
    draw = random.Random(7)  # noqa: S311  # moments, no secrets

    def fresh(number: int) -> Store:
        """Give an empty archive, always at the same place: items and index hold its URL."""
        if place.exists():
            place.rename(tmp_path / f"old-{number}")
        return Store.open(place.as_uri())

    quiet = fresh(0)
    worker.ingest(quiet)  # the first one warms the caches of files
    quiet, began = fresh(1), time.monotonic()
    worker.ingest(quiet)
    whole = time.monotonic() - began
    wanted = content(quiet)
    assert len([key for key in wanted if key.startswith("assets/")]) == 5
    kills = archives = 0
    while kills < KILLS:
        archives += 1
        archive = fresh(1 + archives)
        ended = False
        while not ended:
            verified, before = recorded(archive), asked(provider)
            moment = draw.uniform(0, whole) if kills < KILLS else None
            ended = worker.ingest(archive, kill_after=moment)
            kills += not ended
            fetched = asked(provider) - before
            assert not verified & fetched.keys(), "a verified file was fetched again"
        assert content(archive) == wanted
    assert archives >= 3
