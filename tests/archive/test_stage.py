"""Staging: within the budget, whole or not at all, and going on after a kill."""

import errno
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pyarrow import ipc

from chipmill.errors import (
    BudgetError,
    BusyError,
    LedgerError,
    SceneError,
    StoreError,
    TransientError,
)
from chipmill.formats import layout
from chipmill.formats.manifest import Manifest, decode_manifest
from chipmill.formats.multihash import digest_of
from chipmill.formats.pack import read_header
from chipmill.formats.plan import Plan
from chipmill.formats.webhook import MegabatchCompleted, MegabatchCompletedData
from chipmill.io.fast import Folder, Hashing
from chipmill.io.ledger import LEASE, Ledger
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.manner import DEFAULT, Codec, Manner
from chipmill.model.megabatch import State, megabatch_id
from chipmill.model.plan_request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.model.staging_progress import StagingProgress
from chipmill.steps.merge import merge_index
from chipmill.steps.plan import load_scenes, make_plan
from chipmill.steps.prefetch import register, stage_ahead
from chipmill.steps.remove import Removed, remove_megabatch
from chipmill.steps.stage import Staged, stage_megabatch
from chipmill.steps.verbatim import bytes_of_scenes
from chipmill.train import Batch, ChipDataset

Draw = Callable[..., Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
SCENES, CHIP = 12, 16
_STAGE = """
import itertools, os, signal, sys, time
from pathlib import Path
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.steps.plan import load_plan
from chipmill.steps.stage import stage_megabatch

archive, plan, fast, ledger, budget, packs = sys.argv[1:]
turn = itertools.count()

class Dying(Store):
    def get(self, key):
        if key.startswith("items/") and (number := next(turn)) >= int(packs):
            while len(list(Path(fast).rglob("[!.]*.arrow"))) < int(packs) or number > int(packs):
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().get(key)

archive = Dying.open(archive)
stage_megabatch(load_plan(archive, plan), 0, archive=archive, fast=Path(fast),
                ledger=Ledger.open(ledger), budget=int(budget), worker="child")
"""
"""Stages until so many packs are whole, then kills itself where the next scene would be read."""


@dataclass(frozen=True)
class Site:
    """A plan of three megabatches, and where it is staged."""

    archive: Store
    plan: Plan
    fast: Path
    ledger: Ledger

    def stage(
        self,
        number: int,
        *,
        budget: int = 10**9,
        ledger: Ledger | None = None,
        manner: Manner = DEFAULT,
    ) -> Staged:
        """Stage one megabatch."""
        return stage_megabatch(
            self.plan,
            number,
            archive=self.archive,
            fast=self.fast,
            ledger=ledger or self.ledger,
            budget=budget,
            worker="test",
            manner=manner,
        )

    def ahead(self, *, budget: int, ahead: int = 9) -> list[str]:
        """Stage as far as the budget goes; gives the names."""
        staged = stage_ahead(
            self.plan.plan,
            archive=self.archive,
            fast=self.fast,
            ledger=self.ledger,
            budget=budget,
            worker="test",
            ahead=ahead,
        )
        return [done.megabatch for done in staged]

    def report(self, number: int) -> None:
        """Report a megabatch as a run of one rank does."""
        data = MegabatchCompletedData(
            megabatch=megabatch_id(self.plan.plan, number),
            run="run",
            attempt=1,
            rank=0,
            world=1,
            epoch=0,
            minibatches=1,
        )
        message = MegabatchCompleted(timestamp=datetime.now(UTC), data=data)
        self.ledger.complete(f"m{number}", message.model_dump_json().encode(), message=message)

    def remove(self, megabatch: str) -> Removed:
        """Remove a megabatch."""
        return remove_megabatch(
            megabatch, archive=self.archive, fast=self.fast, ledger=self.ledger, worker="test"
        )

    def states(self) -> list[State]:
        """Read the states of all megabatches."""
        return [row.state for row in self.ledger.megabatches(self.plan.plan)]

    def folder(self, number: int = 0) -> Path:
        """Name the folder of a megabatch."""
        return self.fast / layout.megabatch_folder(self.plan.plan, number)

    def manifest(self, number: int = 0) -> Manifest:
        """Read a manifest."""
        path = self.folder(number) / layout.MANIFEST
        return decode_manifest(path.read_bytes(), where=str(path))

    def on_disk(self) -> int:
        """Add up the bytes that lie on fast storage."""
        return sum(path.stat().st_size for path in self.fast.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def planned(
    draw: Draw, ingest: Ingest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, Plan]:
    """Make an archive of twelve small scenes and plan three megabatches of four."""
    folder = tmp_path_factory.mktemp("planned")
    archive = Store.open((folder / "archive").as_uri())
    random = np.random.default_rng(3)
    for number in range(SCENES):
        layers = {
            "red": (random.integers(1, 9, (96, 96)).astype(np.uint16), 10.0, 0.0),
            "scl": (np.full((48, 48), 4, np.uint8), 20.0, None),
        }
        path = draw(folder / "source", layers, item=f"s{number:02d}")
        request = IngestRequest(sensor="sentinel-2-l2a", catalog=str(path), bands=("red",))
        ingest(request.model_copy(update={"chip_size": CHIP}), archive)
    merge_index(archive, chip_size=CHIP)
    request = PlanRequest(minibatch=2, megabatch=4, chip_size=CHIP, few_scenes=True)
    return archive, make_plan(request, archive)


@pytest.fixture
def site(planned: tuple[Store, Plan], ledger: Ledger, tmp_path: Path) -> Site:
    """Give a plan of which nothing is staged yet."""
    site = Site(*planned, tmp_path / "fast", ledger)
    register(site.plan, ledger, budget=10**9)
    return site


def test_what_is_staged_is_whole(site: Site) -> None:
    """The manifest names every file with its size and digest; nothing else lies there."""
    staged = site.stage(0)
    manifest = site.manifest()
    files = {pack.file: pack for pack in manifest.packs}
    assert {path.name for path in site.folder().iterdir()} == {*files, layout.MANIFEST}
    for name, pack in files.items():
        data = (site.folder() / name).read_bytes()
        assert len(data) == pack.size
        assert digest_of(BytesIO(data), pack.stated.algorithm) == pack.stated.digest
        assert ipc.open_file(str(site.folder() / name)).read_all().num_rows == pack.chips
    assert sum(pack.chips for pack in manifest.packs) == staged.chips
    assert staged.size == site.on_disk() <= site.plan.megabatches[0].size
    assert site.states() == [State.READY, State.PLANNED, State.PLANNED]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_compressed_pack_has_a_batch_for_each_chip(site: Site, codec: Codec) -> None:
    """A chip by lot decodes itself alone, and what the codec adds is within the reservation."""
    staged = site.stage(0, manner=Manner(codec=codec))
    assert site.on_disk() == staged.size <= site.plan.megabatches[0].size
    for pack in site.manifest().packs:
        with ipc.open_file(str(site.folder() / pack.file)) as reader:
            assert reader.num_record_batches == pack.chips
            assert read_header(reader.schema, where="").codec == codec


def test_a_pack_of_an_earlier_try_counts_where_it_is_the_same(site: Site, tmp_path: Path) -> None:
    """Whoever changes the codec between two tries gets it; what is as wanted stays."""
    site.stage(0, manner=Manner(codec="zstd"))
    packs = {path: path.stat().st_mtime_ns for path in site.folder().glob("*.arrow")}
    other = Site(site.archive, site.plan, site.fast, Ledger.open(f"sqlite:///{tmp_path}/2.db"))
    with other.ledger:
        register(other.plan, other.ledger, budget=10**9)
        other.stage(0, manner=Manner(codec="lz4"))
    assert all(path.stat().st_mtime_ns > before for path, before in packs.items())
    assert site.manifest().codec == "lz4"


def test_a_megabatch_is_staged_once(site: Site) -> None:
    """Two workers at once, or one again: the second is told, and touches nothing."""
    site.stage(0)
    before = {path: path.stat().st_mtime_ns for path in site.folder().iterdir()}
    with pytest.raises(BusyError):
        site.stage(0)
    assert {path: path.stat().st_mtime_ns for path in site.folder().iterdir()} == before


def test_a_budget_under_the_largest_megabatch_is_refused(site: Site) -> None:
    """It could never be staged; the message has both numbers and what to change."""
    largest = max(part.size for part in site.plan.megabatches)
    said = f"needs {largest:,} bytes, the budget of fast storage is {largest - 1:,}"
    with pytest.raises(BudgetError, match=said):
        site.ahead(budget=largest - 1)
    assert site.on_disk() == 0


def test_the_budget_is_never_exceeded(site: Site) -> None:
    """Staged as far as it goes; reported, removed, staged on: to the end, and always within."""
    budget = max(part.size for part in site.plan.megabatches)
    site.ledger.begin_run("run", attempt=1, world=1, plan=site.plan.plan)
    staged = site.ahead(budget=budget)
    for number in range(3):
        assert len(staged) == number + 1
        assert site.on_disk() <= site.ledger.reserved() <= budget
        with pytest.raises(BusyError):
            site.remove(staged[number])
        site.report(number)
        site.remove(staged[number])
        staged += site.ahead(budget=budget)
    assert staged == [megabatch_id(site.plan.plan, number) for number in range(3)]
    assert site.states() == [State.REMOVED] * 3
    assert site.on_disk() == site.ledger.reserved() == 0


def test_only_what_is_wanted_is_staged(site: Site) -> None:
    """One ahead of the one in use: room is kept for other plans."""
    assert len(site.ahead(budget=10**9, ahead=1)) == 2
    assert site.ahead(budget=10**9, ahead=1) == []


def test_removing_twice_frees_once(site: Site) -> None:
    """A cleanup flow that is started twice, by a webhook and by a schedule, does no harm."""
    site.ledger.begin_run("run", attempt=1, world=1, plan=site.plan.plan)
    staged = site.stage(0)
    site.report(0)
    first = site.remove(staged.megabatch)
    again = site.remove(staged.megabatch)
    assert first.freed > 0.9 * staged.size
    assert again.freed == 0
    assert not site.folder().exists()


def test_foreign_files_are_never_removed(site: Site) -> None:
    """Somebody keeps a file there: it stays, and the error names it."""
    site.stage(0)
    (site.folder() / "notes.txt").write_text("mine")
    folder = Folder.of(site.fast, plan=site.plan.plan, number=0)
    with pytest.raises(StoreError, match=r"notes\.txt is not chipmill's"):
        folder.remove()
    assert (site.folder() / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("packs", [0, 1, 3])
def test_a_killed_stage_goes_on(site: Site, tmp_path: Path, packs: int) -> None:
    """SIGKILL of a real process: what was whole is used, the rest made, the end the same."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    fast, budget = str(site.fast), str(10**9)
    command = [sys.executable, "-c", _STAGE, site.archive.url, site.plan.plan, fast, url, budget]
    child = subprocess.run([*command, str(packs)], check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    whole = {path: path.stat().st_mtime_ns for path in site.fast.rglob("[!.]*.arrow")}
    assert len(whole) == packs
    (site.folder() / ".tmp-1-half.arrow").write_bytes(b"half")
    with pytest.raises(BusyError):
        site.stage(0)  # the lease lasts
    with Ledger.open(url, clock=lambda: time.time() + LEASE + 1) as later:
        site.stage(0, ledger=later)
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert list(site.folder().glob(".tmp*")) == []
    assert site.states()[0] is State.READY
    quiet = Site(site.archive, site.plan, tmp_path / "quiet", Ledger.open(f"{url}2"))
    with quiet.ledger:
        register(quiet.plan, quiet.ledger, budget=10**9)
        quiet.stage(0)
    assert quiet.manifest() == site.manifest()


def test_a_damaged_scene_gives_the_bytes_back(site: Site, tmp_path: Path) -> None:
    """One bad file must not block the budget for good; the message names it."""
    shutil.copytree(str(site.archive.local_path("")), tmp_path / "copy")
    archive = Store.open((tmp_path / "copy").as_uri())
    for path in (tmp_path / "copy" / "items").rglob("s*.json"):
        text = path.read_text().replace(site.archive.url, archive.url)
        path.write_text(text)
    for path in (tmp_path / "copy" / "assets").rglob("red.tif"):
        path.write_bytes(path.read_bytes()[:900])
    broken = Site(archive, site.plan, site.fast, site.ledger)
    with pytest.raises(SceneError, match=r"red\.tif .*copy the scene again or drop it"):
        broken.stage(0)
    assert site.states()[0] is State.PLANNED
    assert site.ledger.reserved() == 0
    assert not site.folder().exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_the_moment(tmp_path: Path) -> None:
    """ENOSPC while a file is written: it may pass, and nothing of the file stays."""
    folder = Folder(tmp_path)
    (tmp_path / ".tmp-1-pack.arrow").symlink_to("/dev/full")

    def fill(file: Hashing) -> None:
        file.write(bytes(10**6))

    with pytest.raises(TransientError, match="no space left"):
        folder.write("pack.arrow", fill, fence=1)
    assert list(tmp_path.iterdir()) == []


def test_scenes_reserve_what_their_files_need(site: Site) -> None:
    """Twelve chips of a scene may weigh more or less than its files: the files count."""
    planned = site.plan.megabatches[0].size
    staged = site.stage(0, manner=Manner(form="scenes"))
    row = site.ledger.megabatches(site.plan.plan)[0]
    assert site.on_disk() == staged.size == row.reserved
    assert row.bytes == planned
    assert site.manifest().form == "scenes"
    need = bytes_of_scenes(load_scenes(site.archive, site.plan.plan, 1), site.archive)
    assert planned != need > staged.size
    with pytest.raises(BudgetError):
        site.stage(1, manner=Manner(form="scenes"), budget=need + staged.size // 2)
    assert Folder(site.folder()).remove() == staged.size


def test_another_form_may_need_more_than_was_reserved(site: Site) -> None:
    """A try in another form was dropped and nothing else is free: no manifest is shown; again."""
    name = megabatch_id(site.plan.plan, 0)
    url = f"sqlite:///{site.fast.parent / 'ledger.db'}"
    site.ledger.claim_staging(name, budget=1000, worker="gone", need=1000)
    with Ledger.open(url, clock=lambda: time.time() + LEASE + 1) as later:
        with pytest.raises(LedgerError, match="1000 are reserved"):
            site.stage(0, budget=1000, ledger=later)
        row = later.megabatch(name)
        assert (row.state, row.reserved, site.on_disk()) == (State.PLANNED, 0, 0)
        assert site.stage(0, ledger=later).size <= row.bytes
        assert later.megabatch(name).state is State.READY


def test_a_disk_that_would_be_filled_is_left_alone(site: Site) -> None:
    """Something else fills the disk: the bytes of the budget come back, and the ledger says why."""
    with pytest.raises(TransientError, match=r"free, .* stay free; free some"):
        site.stage(0, manner=Manner(floor=10**18))
    row = site.ledger.megabatches(site.plan.plan)[0]
    assert (row.state, row.reserved) == (State.PLANNED, 0)
    assert "CHIPMILL_FREE_FLOOR" in row.reason
    assert site.on_disk() == 0


def test_a_failing_disk_is_an_error_of_the_moment(tmp_path: Path) -> None:
    """EIO may pass where a path to the storage comes back; nothing of the file stays."""

    def fill(file: Hashing) -> None:
        file.write(b"some")
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(TransientError, match=r"the disk of .*pack\.arrow fails .*look at it"):
        Folder(tmp_path).write("pack.arrow", fill, fence=1)
    assert list(tmp_path.iterdir()) == []


def test_only_leases_that_are_over_leave_rubbish(tmp_path: Path) -> None:
    """A worker that lost its lease and comes back late must not sweep its successor's files."""
    for name in (".tmp-1-a.arrow", ".tmp-2-b.arrow", ".tmp-3-c.arrow", ".tmp-d.arrow"):
        (tmp_path / name).touch()
    Folder(tmp_path).prepare(2)
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-3-c.arrow"]


def test_staging_says_how_far_it_is(site: Site) -> None:
    """From nothing to all, with a rate and the time that is left."""
    told = list[StagingProgress]()
    staged = site.stage(0, manner=Manner(tell=told.append))
    assert (told[0].scenes, told[0].chips, told[0].left) == (0, 0, None)
    last = told[-1]
    assert (last.scenes, last.of_scenes, last.share) == (4, 4, 1)
    assert last.chips == last.of_chips == staged.chips
    half = replace(last, scenes=3, chips=last.chips // 2, size=10**9, seconds=100)
    assert str(half).endswith("3 of 4 scenes, 50%, 1,000 MB at 10 MB/s, 1:40 left")


def test_the_command_stages(site: Site, tmp_path: Path) -> None:
    """A person stages here and now, without Prefect."""
    environment = {
        "CHIPMILL_ARCHIVE": site.archive.url,
        "CHIPMILL_FAST": str(site.fast),
        "CHIPMILL_LEDGER": f"sqlite:///{tmp_path / 'command.db'}",
        "CHIPMILL_FREE_FLOOR": "0",
    }
    command = str(Path(sys.executable).parent / "chipmill")
    done = subprocess.run(
        [command, "stage", site.plan.plan, "--ahead", "0"],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert f"{site.plan.plan}-00000 is staged: 144 chips" in done.stdout
    assert "4 of 4 scenes, 100%" in done.stderr
    assert (site.folder() / layout.MANIFEST).exists()


def test_scenes_with_bands_of_other_sizes_are_a_group_of_their_own(
    draw: Draw, ingest: Ingest, archive: Store, ledger: Ledger, tmp_path: Path
) -> None:
    """A catalogue may deliver a band at 10 m for one scene and at 20 m for another.

    Their chips have other sizes in a pack, so they cannot share an array: each gets minibatches of
    its own, and every chip comes out.
    """
    pixels = np.full((2 * CHIP, 2 * CHIP), 7, np.uint16)
    coarse = np.full((CHIP, CHIP), 9, np.uint16)
    clear = np.full((2 * CHIP, 2 * CHIP), 4, np.uint8)
    for name, swir in (("fine", (pixels, 10.0, 0)), ("coarse", (coarse, 20.0, 0))):
        layers = {"red": (pixels, 10.0, 0), "swir16": swir, "scl": (clear, 10.0, 0)}
        item = draw(tmp_path / "source", layers, item=name)
        request = IngestRequest(
            sensor="sentinel-2-l2a",
            catalog=str(item),
            bands=("red", "swir16"),
            chip_size=CHIP,
        )
        ingest(request, archive)
    merge_index(archive, chip_size=CHIP)
    asked = PlanRequest(minibatch=2, few_scenes=True, leftover="spread", chip_size=CHIP)
    plan = make_plan(asked, archive)
    site = Site(archive, plan, tmp_path / "fast", ledger)
    register(plan, ledger, budget=10**9)
    site.stage(0)
    batches = list(ChipDataset(archive.url, plan=plan.plan, fast=site.fast, as_torch=False))
    ids = [chip for batch in batches for chip in batch.chip_ids]
    assert len(ids) == len(set(ids)) == 8
    for batch in batches:
        assert isinstance(batch, Batch)
        swir = {"fine": 7, "coarse": 9}[batch.chip_ids[0].split("/")[1]]
        assert (batch.pixels[:, 1] == swir).all()
