"""SIGKILL before a system call that changes something, and the rerun ends as a quiet run would."""

import hashlib
import itertools
import random
import re
import shutil
import signal
from pathlib import Path

from chipmill.formats import layout
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.megabatch import State
from tests.storage.site import Site
from tests.storage.syscalls import Point, changes
from tests.storage.trials import Check, Trial, chains_are_legal, is_whole, prepare


def kill_everywhere(
    trial: Trial, prepared: Path, words: list[str], check: Check, *, points: int
) -> int:
    """Kill a command before its changing calls, some reruns too; gives how often it was killed.

    Threads take turns otherwise in each run, so not every trial is killed; it is then a quiet run.
    """
    chance = random.Random(5)  # noqa: S311  a seed, not a secret
    trial.reset(prepared)
    quiet = trial.shell.run(words, trial.env)
    assert quiet.status == 0, quiet.said
    check(trial)
    found = {call.point for call in changes(quiet.calls, trial.folder, *watched(trial))}
    ordered = sorted(found, key=lambda point: (point.call, point.count))
    kills = 0
    chance.shuffle(ordered)
    for point in itertools.islice(itertools.cycle(ordered), 3 * points):
        if kills >= points:
            break
        trial.reset(prepared)
        again = chance.choice(ordered) if chance.random() < 0.3 else None
        for each in filter(None, (point, again)):
            kills += killed(trial, words, each)
        trial.rerun(words)
        check(trial)
    return kills


def watched(trial: Trial) -> list[Path]:
    """Name what else a command may change: the archive, where it is a folder."""
    return [Path(trial.archive.removeprefix("file://"))]


def killed(trial: Trial, words: list[str], point: Point) -> bool:
    """Run and kill before a point; tells whether the kill came before a change."""
    inject = f"{point.call}:signal=KILL:when={point.count}"
    done = trial.shell.run(words, trial.env, inject=inject)
    assert done.status in (0, 1, -signal.SIGKILL), done.said
    last = [call for call in done.calls if call.text.endswith("= ?")]
    return done.status == -signal.SIGKILL and bool(changes(last, trial.folder, *watched(trial)))


def test_stage_goes_on_after_a_kill_at_any_call(
    site: Site, trial: Trial, tmp_path: Path, kill_points: int
) -> None:
    """What is in use is whole, and the disk holds what the ledger says and nothing else."""
    plan = site.plan()
    site.begin(plan)
    prepared = prepare(site, tmp_path)
    wanted: dict[str, bytes] = {}

    def check(trial: Trial) -> None:
        with Ledger.open(trial.url) as ledger:
            chains_are_legal(ledger)
            rows = ledger.megabatches()[:2]
            assert {row.state for row in rows} == {State.IN_USE}
            size = 0
            for row in rows:
                folder = trial.folder / "fast" / layout.megabatch_folder(row.plan, row.number)
                size += is_whole(trial, row.id, folder)
                data = (folder / layout.MANIFEST).read_bytes()
                assert wanted.setdefault(row.id, data) == data
            assert ledger.reserved() == size
        files = [path for path in (trial.folder / "fast").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) == size

    words = ["stage"]
    kills = kill_everywhere(trial, prepared, words, check, points=kill_points)
    assert kills >= kill_points


def test_cleanup_goes_on_after_a_kill_at_any_call(
    site: Site, trial: Trial, tmp_path: Path, kill_points: int
) -> None:
    """Nothing of it is left, and its bytes came back once."""
    plan = site.plan(megabatch=8)
    site.begin(plan)
    (name,) = site.stage(ahead=0)
    site.report(name)
    prepared = prepare(site, tmp_path)

    def check(trial: Trial) -> None:
        with Ledger.open(trial.url) as ledger:
            chains_are_legal(ledger)
            assert ledger.megabatch(name).state is State.REMOVED
            assert ledger.reserved() == 0
        assert not [path for path in (trial.folder / "fast").rglob("*") if path.is_file()]

    kills = kill_everywhere(trial, prepared, ["cleanup", name], check, points=kill_points)
    assert kills >= kill_points


def test_export_goes_on_after_a_kill_at_any_call(
    site: Site, trial: Trial, tmp_path: Path, kill_points: int
) -> None:
    """The packs in the archive are those of a quiet run, and each is there once."""
    plan = site.plan()
    prepared = prepare(site, tmp_path)
    shutil.copytree(str(site.archive.local_path("")), prepared / "archive")
    old, new = site.archive.url, (trial.folder / "archive").as_uri()
    for path in prepared.rglob("*.json"):
        path.write_text(path.read_text().replace(old, new))
    inside = Trial(trial.folder, new, trial.shell)
    wanted: dict[str, str] = {}

    def check(trial: Trial) -> None:
        files = content(Store.open(trial.archive), "exports/")
        if not wanted:
            wanted.update(files)
        assert files == wanted

    kills = kill_everywhere(inside, prepared, ["export", plan.plan], check, points=kill_points)
    assert kills >= kill_points


def content(archive: Store, prefix: str) -> dict[str, str]:
    """Give the objects below a prefix: the hash of each, but for the times that it names."""
    found: dict[str, str] = {}
    for key in archive.keys(prefix):
        data = archive.get(key)
        if key.endswith(".json"):
            data = re.sub(rb'"\d{4}-\d\d-\d\dT[^"]*"', b'"then"', data)
        found[key] = hashlib.sha256(data).hexdigest()
    return found
