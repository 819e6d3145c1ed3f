"""Loss of power at any moment of the real commands, and planted bugs that must not survive it."""

import random
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

import chipmill
from chipmill.errors import PackError
from chipmill.formats import layout
from chipmill.formats.manifest import decode_manifest
from chipmill.formats.multihash import digest_of
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State
from tests.storage.crash_disk import Disk
from tests.storage.site import Site
from tests.storage.syscalls import Call
from tests.storage.trials import Trial, chains_are_legal, is_whole, prepare

Files = dict[str, bytes]
WHOLE = ("ready", "in_use", "complete")


@dataclass(frozen=True)
class Bug:
    """A mistake that is planted into a copy of the source."""

    command: str
    file: str
    right: str
    wrong: str


BUGS = {
    "a file is not synced": Bug(
        "stage",
        "io/fast.py",
        "                    file.sync()\n",
        "                    file._put()\n",
    ),
    "a file is only written": Bug("stage", "io/direct.py", "        os.fsync(self._handle)\n", ""),
    "names are not synced": Bug("stage", "io/fast.py", "os.fsync(handle)", "pass"),
    "the name of the plan is not synced": Bug(
        "stage", "io/fast.py", "list(self.path.parents)[:3]", "list(self.path.parents)[:1]"
    ),
    "no temporary name": Bug(
        "stage",
        "io/fast.py",
        'temporary = self.path / f"{_TEMPORARY}{fence}-{name}"',
        "temporary = self.path / name",
    ),
    "ready before the manifest": Bug(
        "stage",
        "steps/stage.py",
        "        size = sum(map(_size, packs))",
        "        ledger.ready(name, fence, size=1)\n        size = sum(map(_size, packs))",
    ),
    "bytes before the claim": Bug(
        "stage",
        "steps/stage.py",
        "    fence = ledger.claim_staging(",
        "    early = Folder.of(fast, plan=plan.plan, number=number)\n"
        "    early.path.mkdir(parents=True)\n"
        '    (early.path / ".tmp-0-x").write_bytes(b"early")\n    fence = ledger.claim_staging(',
    ),
    "deleted before the tombstone": Bug(
        "cleanup",
        "steps/remove.py",
        "    fence = ledger.claim_removal(",
        "    Folder.of(fast, plan=plan, number=number).remove()\n    fence = ledger.claim_removal(",
    ),
    "bytes freed before the files": Bug(
        "cleanup",
        "steps/remove.py",
        "    with kept(ledger, megabatch, fence) as lease:\n",
        "    ledger.removed(megabatch, fence)\n    with kept(ledger, megabatch, fence) as lease:\n",
    ),
    "a removal is not synced": Bug("cleanup", "io/fast.py", "            os.fsync(plan)", "#"),
    "the ledger is not synced": Bug(
        "cleanup",
        "io/ledger_engine.py",
        'connection.exec_driver_sql("BEGIN IMMEDIATE")',
        'connection.exec_driver_sql("PRAGMA synchronous=OFF")\n'
        '    connection.exec_driver_sql("BEGIN IMMEDIATE")',
    ),
}


@pytest.fixture(scope="session")
def draws(full: bool) -> int:  # noqa: FBT001  a fixture's value
    """Say how many losses of power are drawn at each call, besides the worst one."""
    return 80 if full else 2


@pytest.fixture
def begun(site: Site, tmp_path: Path) -> dict[str, tuple[Path, list[str]]]:
    """Prepare a place for each command; gives it and the words of the command."""
    site.begin(site.plan())
    places = {"stage": (prepare(site, tmp_path), ["stage", "--ahead", "0"])}
    (name,) = site.stage(ahead=0)
    site.report(name)
    (tmp_path / "later").mkdir()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "later")
    shutil.copytree(site.fast, tmp_path / "later" / "fast")
    return places | {"cleanup": (tmp_path / "later", ["cleanup", name])}


def record(
    trial: Trial, place: tuple[Path, list[str]], *, source: Path | None = None
) -> tuple[Disk, Sequence[Call]]:
    """Run a command with all its bytes on record; gives the disk as it was, and the calls."""
    prepared, words = place
    trial.reset(prepared)
    done = trial.shell.run(words, trial.env, record=True, source=source)
    trial.reset(prepared)
    return Disk([trial.folder]), done.calls


class Judge:
    """Says what is wrong with the files that a crash has left."""

    def __init__(self, trial: Trial, scratch: Path) -> None:
        """Judge files of a trial; databases are opened in the folder `scratch`."""
        self._trial = trial
        self._scratch = scratch
        self._read: dict[int, list[tuple[str, str, int, str, int]]] = {}
        scratch.mkdir(exist_ok=True)

    def rows(self, files: Files) -> list[tuple[str, str, int, str, int]]:
        """Read the megabatches of the ledger that is among the files."""
        found = {p: data for p, data in files.items() if "ledger.db" in p}
        key = hash(tuple(sorted(found.items())))
        if key not in self._read:
            for left in self._scratch.iterdir():
                left.unlink()
            for path, data in found.items():
                (self._scratch / Path(path).name).write_bytes(data)
            database = sqlite3.connect(self._scratch / "ledger.db")
            try:
                wanted = "SELECT id, plan, number, state, reserved FROM megabatch"
                self._read[key] = database.execute(wanted).fetchall()
            finally:
                database.close()
        return self._read[key]

    def wrong(self, files: Files) -> str:
        """Name what is wrong; empty where nothing is."""
        try:
            rows = self.rows(files)
        except sqlite3.DatabaseError as err:
            return f"the ledger is broken: {err}"
        for name, plan, number, state, _ in rows:
            folder = f"{self._trial.folder}/fast/{layout.megabatch_folder(plan, number)}"
            inside = {p[len(folder) + 1 :]: d for p, d in files.items() if p.startswith(folder)}
            if state in WHOLE and (complaint := _not_whole(inside)):
                return f"{name} is {state}, but {complaint}"
            if state == "removed" and inside:
                return f"{name} is removed, but {sorted(inside)} are there"
        return ""


def _not_whole(inside: Files) -> str:
    if layout.MANIFEST not in inside:
        return "its manifest is gone"
    try:
        manifest = decode_manifest(inside[layout.MANIFEST], where="the manifest")
    except PackError as err:
        return str(err)
    for pack in manifest.packs:
        there = BytesIO(inside.get(pack.file, b""))
        if digest_of(there, pack.stated.algorithm) != pack.stated.digest:
            return f"{pack.file} is not as the manifest says"
    return ""


def first_wrong(disk: Disk, calls: Sequence[Call], judge: Judge, trial: Trial, draws: int) -> str:
    """Lose power after each call, in several ways; names the first thing that is wrong."""
    chance = random.Random(11)  # noqa: S311  a seed, not a secret
    finals: dict[str, bytes] = {}
    for call in disk.play(calls):
        now = {path: bytes(inode.now) for path, inode in disk.names.items() if inode is not None}
        reserved = sum(row[-1] for row in judge.rows(now))
        if disk.used(trial.folder / "fast") > reserved:
            return f"more bytes than the {reserved} reserved, after {call.point}"
        left = [disk.at_worst(), *(disk.after_power_loss(chance) for _ in range(draws))]
        for files in left:
            if complaint := judge.wrong(files):
                return f"{complaint}, after {call.point}"
            for path, data in files.items():
                if path.endswith(".arrow") and "/.tmp-" not in path:
                    finals.setdefault(path, data)
                    if finals[path] != data:
                        return f"{path} has other bytes under its own name, after {call.point}"
    return ""


@pytest.mark.parametrize("command", ["stage", "cleanup"])
def test_no_loss_of_power_breaks_a_promise(
    trial: Trial,
    begun: dict[str, tuple[Path, list[str]]],
    tmp_path: Path,
    draws: int,
    command: str,
) -> None:
    """Ready means durable and whole, removed means gone, and the ledger survives, at every call."""
    disk, calls = record(trial, begun[command])
    assert len(list(Disk([trial.folder]).play(calls))) > 50
    assert first_wrong(disk, calls, Judge(trial, tmp_path / "db"), trial, draws) == ""


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_die(
    trial: Trial,
    begun: dict[str, tuple[Path, list[str]]],
    tmp_path: Path,
    draws: int,
    bug: str,
) -> None:
    """A simulation that misses a mistake that is there says nothing where it finds none."""
    planted, source = BUGS[bug], tmp_path / "source"
    shutil.copytree(Path(chipmill.__path__[0]), source / "chipmill")
    text = (source / "chipmill" / planted.file).read_text()
    assert text.count(planted.right) == 1
    (source / "chipmill" / planted.file).write_text(text.replace(planted.right, planted.wrong))
    disk, calls = record(trial, begun[planted.command], source=source)
    assert first_wrong(disk, calls, Judge(trial, tmp_path / "db"), trial, draws)


def lay(trial: Trial, files: Files) -> None:
    """Put what is left of a disk where the command looks for it."""
    shutil.rmtree(trial.folder)
    for path, data in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)


@pytest.mark.parametrize("command", ["stage", "cleanup"])
def test_a_rerun_after_a_loss_of_power_converges(
    trial: Trial,
    begun: dict[str, tuple[Path, list[str]]],
    kill_points: int,
    command: str,
) -> None:
    """What a power failure has left is what the next run begins with, which may lose it too."""
    chance = random.Random(13)  # noqa: S311  a seed, not a secret
    disk, calls = record(trial, begun[command])
    left = [disk.after_power_loss(chance) for _ in disk.play(calls)]
    for files in chance.sample(left, min(len(left), max(2, kill_points // 3))):
        lay(trial, files)
        trial.free()
        again = Disk([trial.folder])
        lost = [
            again.after_power_loss(chance)
            for _ in again.play(trial.rerun(begun[command][1], record=True))
        ]
        if lost:
            lay(trial, chance.choice(lost))
            trial.rerun(begun[command][1])
        with Ledger.open(trial.url) as ledger:
            chains_are_legal(ledger)
            row = ledger.megabatches()[0]
            folder = trial.folder / "fast" / layout.megabatch_folder(row.plan, row.number)
            if command == "stage":
                assert row.state is State.IN_USE
                assert is_whole(trial, row.id, folder) == ledger.reserved()
            else:
                assert (row.state, ledger.reserved()) == (State.REMOVED, 0)
                assert not folder.exists()
