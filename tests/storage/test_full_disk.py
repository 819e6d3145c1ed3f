"""A disk that is full, over its quota or failing: no byte is lost, and staging goes on later."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State
from tests.storage.site import Site
from tests.storage.syscalls import changes, path_of
from tests.storage.trials import Trial, chains_are_legal, is_whole, prepare

ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS")
CALLS = ("write", "fsync", "pwrite64", "fdatasync")
STAGE = "from chipmill.command import main; main()"


@pytest.fixture
def begun(site: Site, tmp_path: Path) -> Path:
    """Prepare a site where a run waits for its first megabatch."""
    site.begin(site.plan())
    return prepare(site, tmp_path)


def holds(trial: Trial) -> set[State]:
    """See that what is there is whole, and within what is reserved; gives the states."""
    with Ledger.open(trial.url) as ledger:
        chains_are_legal(ledger)
        for row in ledger.megabatches():
            folder = trial.folder / "fast" / row.plan / f"{row.number:05d}"
            size = sum(path.stat().st_size for path in folder.glob("*"))
            assert size <= row.reserved
            if row.state is State.IN_USE:
                assert is_whole(trial, row.id, folder) == row.reserved
        return {row.state for row in ledger.megabatches()}


@pytest.mark.parametrize("call", CALLS)
def test_an_error_of_the_disk_gives_the_space_back(
    trial: Trial, begun: Path, kill_points: int, call: str
) -> None:
    """Packs are written by `write`, the ledger by `pwrite64`: whichever fails, and whenever."""
    chance = random.Random(call)  # noqa: S311  a seed, not a secret
    words = ["stage", "--ahead", "0"]
    trial.reset(begun)
    quiet = trial.shell.run(words, trial.env)
    assert quiet.status == 0, quiet.said
    paths = [path_of(c) for c in changes(quiet.calls, trial.folder) if c.point.call == call]
    failed = 0
    for number in range(max(4, kill_points // 4)):
        if not paths:
            break  # SQLite may sync by either call
        error, path = ERRORS[number % 4], chance.choice(paths)
        count = chance.randint(1, paths.count(path))
        trial.reset(begun)
        inject = f"{call}:error={error}:when={count}"
        done = trial.shell.run(words, trial.env, inject=inject, only=path)
        assert done.status in (0, 1), done.said
        assert "Traceback" not in done.said
        failed += done.status
        states = holds(trial)
        if done.status == 1 and call == "write":
            assert states == {State.PLANNED}, done.said
            assert not [path for path in (trial.folder / "fast").rglob("*") if path.is_file()]
        trial.rerun(words)
        assert State.IN_USE in holds(trial)
    assert failed or not paths


def test_a_disk_that_is_full_is_said_and_waited_for(site: Site, trial: Trial, begun: Path) -> None:
    """A true ENOSPC of a small disk; with more space the same command succeeds."""
    said = on_its_own_disk(trial, begun, "size=100k", "remount,size=100m")
    assert "no space left" in said
    assert "no space left" in given_up(trial)


def test_a_disk_that_may_only_be_read_is_said(site: Site, trial: Trial, begun: Path) -> None:
    """A true EROFS, as of a disk that the system has stopped writing to; later it goes on."""
    said = on_its_own_disk(trial, begun, "size=100m,ro", "remount,rw")
    assert "Read-only file system" in said
    assert "Read-only file system" in given_up(trial)


def on_its_own_disk(trial: Trial, begun: Path, first: str, then: str) -> str:
    """Stage onto a file system of the test's own, in vain, and again when it is mounted otherwise.

    Returns:
        What the first try said.
    """
    trial.reset(begun)
    fast, kept = trial.folder / "fast", trial.folder / "kept"
    fast.mkdir()
    script = """
    mount -t tmpfs -o "$5" tmpfs "$1" || exit 77
    "$2" -c "$3" stage --ahead 0; echo "first $?"; ls -AR "$1"
    mount -o "$6" "$1"
    "$2" -c "$3" stage --ahead 0; echo "second $?"; cp -r "$1" "$4"
    """
    shell = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    done = subprocess.run(
        [*shell, str(fast), sys.executable, STAGE, str(kept), first, then],
        env={"PATH": os.defpath, **trial.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no file system may be mounted here: {done.stderr}")
    assert "first 1" in done.stdout, done.stderr
    assert ".arrow" not in done.stdout.partition("second")[0]
    assert "second 0" in done.stdout, done.stderr
    shutil.rmtree(fast)
    kept.rename(fast)
    assert State.IN_USE in holds(trial)
    return done.stderr


def given_up(trial: Trial) -> str:
    """Say why the ledger has the one megabatch that is in use given up once before."""
    with Ledger.open(trial.url) as ledger:
        (name,) = [row.id for row in ledger.megabatches() if row.state is State.IN_USE]
        (reason,) = [change.why for change in ledger.history(name) if change.now is State.PLANNED]
    return reason
