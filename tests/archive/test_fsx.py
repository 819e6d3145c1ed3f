"""FSx for Lustre linked to the archive: files are restored and released, not copied and deleted."""

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import numpy as np
import pytest

from chipmill.errors import StoreError, TransientError
from chipmill.io.fast import Folder
from chipmill.io.fsx_tasks import FsxTasks
from chipmill.io.ledger import Ledger
from chipmill.io.lustre import Lustre
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.manner import Manner
from chipmill.model.plan_request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import merge_index
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import register
from chipmill.steps.stage import stage_megabatch
from chipmill.train import Batch, ChipDataset

Draw = Callable[..., Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
CHIP = 16
PLAN = "0" * 16
_LFS = """#!{python}
import json, os, sys
from pathlib import Path

here = Path(__file__).parent
what, *paths = sys.argv[1:]
with open(here / "calls", "a") as calls:
    calls.write(json.dumps([what, *paths]) + "\\n")
for path in map(Path, paths):
    away = path.with_name(path.name + ".released")
    if not path.exists():
        sys.exit(f"cannot find {{path}}")
    if what == "hsm_restore" and away.exists():
        away.unlink()
        path.write_bytes((here / "bucket" / path.parent.name / path.name).read_bytes())
    if what == "hsm_release" and not away.exists():
        away.touch()
        path.write_bytes(bytes(path.stat().st_size))
    if what == "hsm_state":
        flags = "0x0000000d) released" if away.exists() else "0x00000009)"
        print(f"{{path}}: ({{flags}} exists archived, archive_id:1")
"""
"""Keeps the state of each file beside it; a released file reads as zeros, so nobody may read it."""


@pytest.fixture
def lfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for Lustre's command first in the path; gives its folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "lfs"
    command.write_text(_LFS.format(python=sys.executable))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def calls(lfs: Path) -> list[list[str]]:
    """Read what the command was asked for."""
    path = lfs / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def linked(lfs: Path, root: Path, scenes: int) -> list[Path]:
    """Make files of a linked bucket whose bytes are not on the file system."""
    paths: list[Path] = []
    for number in range(scenes):
        bucket = lfs / "bucket" / f"s{number}"
        bucket.mkdir(parents=True)
        (bucket / "red.tif").write_bytes(b"pixels" * (number + 1))
        path = root / f"s{number}" / "red.tif"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(6 * (number + 1)))
        path.with_name("red.tif.released").touch()
        paths.append(path)
    return paths


def test_only_what_is_not_there_is_restored(lfs: Path, tmp_path: Path) -> None:
    """A restore costs a read of the bucket; what is here already costs nothing."""
    paths = linked(lfs, tmp_path / "fsx", 3)
    lustre = Lustre()
    lustre.restore(paths[:1], seconds=60)
    lustre.restore(paths, seconds=60)
    asked = [call[1:] for call in calls(lfs) if call[0] == "hsm_restore"]
    assert asked == [[str(paths[0])], [str(path) for path in paths[1:]]]
    assert [path.read_bytes() for path in paths] == [b"pixels" * n for n in (1, 2, 3)]
    lustre.release(paths[1:])
    assert [lustre.states(paths)[path].released for path in paths] == [False, True, True]


class _Fsx(BaseHTTPRequestHandler):
    """Answers as Amazon's API does, with the names and the form of its service description."""

    imported: ClassVar[list[str]] = []
    asked: ClassVar[list[dict[str, object]]] = []
    end = "SUCCEEDED"

    def do_POST(self) -> None:
        """Take a task, and tell at the second look that it has ended."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = self.headers["X-Amz-Target"].partition(".")[2]
        task = {"TaskId": "task-0123456789abcdef0", "Type": "IMPORT_METADATA_FROM_REPOSITORY"}
        if what == "CreateDataRepositoryTask":
            self.imported.extend(asked["Paths"])
            self.asked.append({name: asked.get(name) for name in ("Type", "ReleaseConfiguration")})
            answer = {"DataRepositoryTask": {**task, "Lifecycle": "PENDING"}}
        else:
            failure = {"FailureDetails": {"Message": "no such prefix"}}
            answer = {"DataRepositoryTasks": [{**task, "Lifecycle": self.end, **failure}]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name it has there
        """Say nothing."""


@pytest.fixture
def fsx(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Fsx]]:
    """Serve the API of data repository tasks, where boto3 finds it."""
    kind = type("Fsx", (_Fsx,), {"imported": list[str](), "asked": list[dict[str, object]]()})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        for name, value in {
            "AWS_ENDPOINT_URL_FSX": f"http://127.0.0.1:{server.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield kind
        server.shutdown()
        thread.join()


def test_names_that_are_not_there_are_imported(fsx: type[_Fsx]) -> None:
    """A task is asked for and waited for; one that fails says why."""
    tasks = FsxTasks("fs-0123456789abcdef0", poll=0.01)
    tasks.import_names(["s3://team/assets/a/red.tif"], seconds=60)
    assert fsx.imported == ["s3://team/assets/a/red.tif"]
    fsx.end = "FAILED"
    with pytest.raises(StoreError, match=r"task-.* failed \(no such prefix\)"):
        tasks.import_names(["s3://team/none"], seconds=60)
    fsx.end = "EXECUTING"
    with pytest.raises(TransientError, match="did not end within 0 s"):
        tasks.import_names(["s3://team/slow"], seconds=0)


def test_tasks_free_what_the_command_may_not(
    fsx: type[_Fsx], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `lfs` a task frees the files that links stand for, a hundred at a time."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    links, bucket = tmp_path / "fast" / PLAN / "00000", tmp_path / "archive"
    for number in range(150):
        name = f"{number:032x}.tif"
        for folder in (links, bucket):
            folder.mkdir(parents=True, exist_ok=True)
        (bucket / name).write_bytes(b"pixels")
        Folder(links).link(name, bucket / name)
    with pytest.raises(StoreError, match="install Lustre's client"):
        Folder(links).remove()
    assert len([*links.iterdir()]) == 150
    monkeypatch.setattr("chipmill.io.fsx_tasks.POLL", 0.01)
    Folder(links, fsx="fs-0123456789abcdef0").remove()
    assert not links.exists()
    at_once = {"DurationSinceLastAccess": {"Unit": "DAYS", "Value": 0}}
    release = {"Type": "RELEASE_DATA_FROM_FILESYSTEM", "ReleaseConfiguration": at_once}
    assert fsx.asked == [release] * 2
    mount = next(parent for parent in bucket.parents if parent.is_mount())
    assert {mount / path for path in fsx.imported} == {*bucket.iterdir()}
    assert not any(path.startswith("/") for path in fsx.imported)


def test_what_fails_is_said_with_its_file(lfs: Path, tmp_path: Path) -> None:
    """The command is missing, or complains: one sentence, and what to do."""
    with pytest.raises(TransientError, match=r"hsm_state` failed on .*gone"):
        Lustre().states([tmp_path / "gone"])
    with pytest.raises(StoreError, match="install Lustre's client"):
        Lustre("no-such-command").states([tmp_path])


def test_scenes_are_restored_read_and_released(
    lfs: Path, draw: Draw, ingest: Ingest, archive: Store, ledger: Ledger, tmp_path: Path
) -> None:
    """Staging restores and proves, the loader reads through links, removing releases: no copies."""
    random = np.random.default_rng(1)
    for item in ("a", "b"):
        pixels = random.integers(1, 9, (64, 64)).astype(np.uint16)
        layers = {
            "red": (pixels, 10.0, 0.0),
            "scl": (np.full((32, 32), 4, np.uint8), 20.0, None),
        }
        path = draw(tmp_path / "source", layers, item=item)
        asked = IngestRequest(sensor="sentinel-2-l2a", catalog=str(path), bands=("red",))
        ingest(asked.model_copy(update={"chip_size": CHIP}), archive)
    merge_index(archive, chip_size=CHIP)
    plan = make_plan(PlanRequest(minibatch=2, chip_size=CHIP, few_scenes=True), archive)
    fsx = tmp_path / "fsx"
    for asset in (archive.local_path("assets") or Path()).rglob("red.tif"):
        bucket = lfs / "bucket" / asset.parent.name
        bucket.mkdir(parents=True)
        (bucket / "red.tif").write_bytes(asset.read_bytes())
        stub = fsx / archive.key_of(asset.as_uri())
        stub.parent.mkdir(parents=True)
        stub.write_bytes(bytes(asset.stat().st_size))
        stub.with_name("red.tif.released").touch()
    register(plan, ledger, budget=10**9)
    staged = stage_megabatch(
        plan,
        0,
        archive=archive,
        fast=fsx / "chipmill",
        ledger=ledger,
        budget=10**9,
        worker="test",
        manner=Manner(form="scenes", link=fsx),
    )
    files = [path.stat().st_size for path in fsx.rglob("red.tif")]
    assert sum(files) < staged.size == ledger.reserved()
    batches = [*ChipDataset(archive.url, plan=plan.plan, fast=fsx / "chipmill", as_torch=False)]
    assert sum(len(batch) for batch in batches) == 32
    for batch in batches:
        assert isinstance(batch, Batch)
        assert batch.pixels.min() > 0
    folder = Folder.of(fsx / "chipmill", plan=plan.plan, number=0)
    folder.remove()
    assert not folder.path.exists()
    assert len([*fsx.rglob("red.tif.released")]) == len(files) == 2
    assert sorted(what for what, *_ in calls(lfs) if what != "hsm_state") == [
        "hsm_release",
        "hsm_restore",
        "hsm_restore",
    ]
