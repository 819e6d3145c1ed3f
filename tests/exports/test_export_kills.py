"""An export that is killed at any moment goes on, and ends in the same bytes."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from chipmill.formats import layout
from chipmill.formats.plan import Plan
from chipmill.io.store import Store

WORKER = """
import os, sys, tempfile
from chipmill.io.store import Store
from chipmill.model.export_request import ExportRequest
from chipmill.steps.export import begin_export, export_scenes, export_shards
from chipmill.steps.render import render, render_shards, seal_renderings
from chipmill.steps.seal import seal_export

def run(archive, plan, name):
    request = ExportRequest(plan=plan, name=name, forms=("npz", "webdataset"), cube=4, tar=50)
    begun = begin_export(request, archive)
    for shard in export_shards(begun, archive):
        export_scenes(shard, begun, archive)
    seal_export(begun, archive)
    for shard in render_shards(name, archive, forms=request.renderings):
        render(shard, archive)
    seal_renderings(name, archive, forms=request.renderings)

# A child of this process begins at once: it need not import anything. The parent uses no store,
# since a fork would not have its threads.
tempfile.tempdir = sys.argv[1]
for line in sys.stdin:
    url, plan, name = line.split()
    child = os.fork()
    if not child:
        run(Store.open(url), plan, name)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitpid(child, 0)[1], flush=True)
"""
KILLS = 12


class Site(Protocol):
    """A plan, and the archive that it is of."""

    archive: Store
    plan: Plan


class Worker:
    """A process whose children export, and can be killed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Speak with a running worker."""
        self._process = process

    def export(self, site: Site, name: str, *, kill_after: float | None = None) -> float | None:
        """Export; gives the seconds that it took, None where it was killed before its end."""
        child, began = self._said(f"{site.archive.url} {site.plan.plan} {name}"), time.monotonic()
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        status = self._said("reap")
        assert status in (0, signal.SIGKILL), "an export failed"
        return time.monotonic() - began if status == 0 else None

    def _said(self, line: str) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """Start a worker."""
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Worker(process)
        assert process.stdin
        process.stdin.close()


def files(archive: Store, name: str) -> dict[str, str]:
    """Hash everything below an export but what names it, and what a kill left half written."""
    root = archive.local_path(layout.export_prefix(name))
    assert root is not None
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
        and "#" not in path.name
        and path.name not in ("claim.json", "export.json", "rendering.json")
    }


def finished(root: Path) -> dict[Path, int]:
    """Give the packs and rendered files that lie under their names, with when they were written."""
    kinds = ("*.arrow", "*.npz", "*.tar")
    return {path: path.stat().st_mtime_ns for kind in kinds for path in root.rglob(kind)}


def test_killed_at_any_moment_an_export_ends_in_the_same_bytes(site: Site, worker: Worker) -> None:
    """SIGKILL at random moments, again and again in one export: nothing is left half.

    What a killed run has recorded is not written again, so a run that is killed often comes to its
    end; what it left without a record is written again, with the same bytes.
    """
    seconds = worker.export(site, "undisturbed")
    assert seconds is not None
    expected = files(site.archive, "undisturbed")
    draw = random.Random(4)  # noqa: S311  # moments, not secrets
    name, kills, written = "killed-0", 0, 0
    while kills < KILLS:
        if worker.export(site, name, kill_after=draw.uniform(0, seconds)) is None:
            kills += 1
            continue
        assert files(site.archive, name) == expected
        written += 1
        name = f"killed-{written}"
    while worker.export(site, name) is None:
        pass
    assert files(site.archive, name) == expected


def test_what_is_recorded_is_not_written_again(site: Site, worker: Worker) -> None:
    """A rerun costs what is missing, not the whole export."""
    seconds = worker.export(site, "measure")
    assert seconds is not None
    root = site.archive.local_path(layout.export_prefix("again"))
    assert root is not None
    part = seconds / 2
    while worker.export(site, "again", kill_after=part) is not None:
        part /= 2
    recorded = {
        path.relative_to(root / "records" / "packs").with_suffix("")
        for path in (root / "records" / "packs").rglob("*.parquet")
    }
    before = {path: at for path, at in finished(root).items() if path.relative_to(root) in recorded}
    worker.export(site, "again")
    assert {path: path.stat().st_mtime_ns for path in before} == before
