"""What the ledger has acknowledged outlives every process, the database's own among them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, func, make_url, select, text

from chipmill.io import ledger_tables as tables
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_rows import HistoryRow
from chipmill.model.megabatch import TRANSITIONS, State, megabatch_id

SCRIPT = Path(__file__).with_name("ledger_workers.py")
PLANS = ["0123456789abcdef", "f" * 16]  # two plans share only the budget's lock
NEED, BUDGET = 10, 45  # four of six fit, as the workers' own budget says
NAMES = [megabatch_id(plan, number) for plan in PLANS for number in range(3)]


@pytest.fixture(scope="session")
def kills(full: bool) -> int:  # noqa: FBT001  a fixture's value
    """Say how many workers are killed."""
    return 200 if full else 60


@pytest.fixture(scope="session")
def crashes(full: bool) -> int:  # noqa: FBT001  a fixture's value
    """Say how often the server crashes meanwhile."""
    return 12 if full else 4


def test_kills_leave_a_sound_ledger_on_sqlite(sqlite_url: str, tmp_path: Path, kills: int) -> None:
    """A worker may die between any two instructions of any transaction."""
    with workers(sqlite_url, tmp_path, kills):
        pass
    check(sqlite_url, tmp_path, kills, order="rowid")


@pytest.mark.xdist_group("postgres")
def test_kills_and_crashes_leave_a_sound_ledger_on_postgres(
    new_schema: Callable[[], str],
    tmp_path: Path,
    crash_postgres: Callable[[], None],
    kills: int,
    crashes: int,
) -> None:
    """The server may die as well, in the midst of commits whose answers nobody hears.

    It is set to answer before a commit is on its disk, as some are: the ledger has to undo that.
    """
    url = make_url(new_schema())
    options = f"{url.query['options']} -csynchronous_commit=off"
    url = url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    with workers(url, tmp_path, kills):
        for _ in range(crashes):
            time.sleep(1)
            crash_postgres()
    check(url, tmp_path, kills, order="pg_xact_commit_timestamp(xmin)")


@contextmanager
def workers(url: str, folder: Path, kills: int) -> Generator[None]:
    """Run workers until so many of them were killed, while the block runs beside them."""
    with Ledger.open(url) as ledger:
        for plan in PLANS:
            ledger.register_plan(plan, "{}", needs=[NEED] * (len(NAMES) // len(PLANS)))
    command = [sys.executable, str(SCRIPT), url, str(folder), "7", str(kills)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not list(folder.glob("*.log")) and process.poll() is None:
                time.sleep(0.02)
            yield
            _, complaint = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 0, complaint


def check(url: str, folder: Path, kills: int, *, order: str) -> None:
    """Hold the ledger against what the workers were told, and see that all can go on."""
    engine = create_engine(url)
    changes = history(engine, order)
    told = [json.loads(line) for log in folder.glob("*.log") for line in whole_lines(log)]
    assert len(told) > kills
    assert {change.now for change in changes} == set(State)
    chains_are_legal(changes)
    budget_holds(changes)
    told_is_true(told, changes, engine)
    engine.dispose()
    nothing_is_stuck(url)


def history(engine: Engine, order: str) -> list[HistoryRow]:
    """Read the whole history in the order in which its transactions held."""
    wanted = select(tables.history).order_by(text(order), tables.history.c.version)
    with engine.connect() as connection:
        return [HistoryRow(**row) for row in connection.execute(wanted).mappings()]


def whole_lines(log: Path) -> list[str]:
    """Read the lines of a log but the last one, where its writer was killed within it."""
    return [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def chains_are_legal(changes: list[HistoryRow]) -> None:
    """Each megabatch has gone one legal way, without a gap."""
    for name in NAMES:
        state, generation = State.PLANNED, 1
        mine = [change for change in changes if change.megabatch == name]
        for version, change in enumerate(mine, start=1):
            assert (change.version, change.was) == (version, state)
            handed_over = change.was is change.now and change.now in {
                State.STAGING,
                State.REMOVING,
            }
            assert handed_over or change.now in TRANSITIONS[change.was]
            generation += change.was is State.REMOVED
            assert change.generation == generation
            state = change.now


def budget_holds(changes: list[HistoryRow]) -> None:
    """After no commit do the megabatches together hold more bytes than the budget."""
    held = dict.fromkeys(NAMES, 0)
    for change in changes:
        held[change.megabatch] = 0 if change.now in {State.PLANNED, State.REMOVED} else NEED
        assert sum(held.values()) <= BUDGET


def told_is_true(told: list[dict[str, Any]], changes: list[HistoryRow], engine: Engine) -> None:
    """Each change that a worker was told of is in the history, each report among the done."""
    leases = {(change.megabatch, change.now, change.actor) for change in changes}
    turns = {(change.megabatch, change.now, change.generation) for change in changes}
    for line in told:
        if "rank" in line:
            assert reports(engine, line) == 1, line
        elif line["actor"]:
            assert (line["megabatch"], line["now"], line["actor"]) in leases
        else:
            assert (line["megabatch"], line["now"], line["generation"]) in turns


def reports(engine: Engine, line: dict[str, Any]) -> int:
    """Count whether a report is there: in its generation, or in a later one where it came late."""
    done = tables.done.c
    same = (done.megabatch == line["megabatch"], done.run == line["run"])
    same += (done.rank == line["rank"], done.attempt >= line["attempt"])
    found = select(func.count()).where(*same, done.generation >= line["generation"])
    with engine.connect() as connection:
        return min(1, connection.scalar(found) or 0)


def nothing_is_stuck(url: str) -> None:
    """A newcomer can bring each megabatch to its end once the leases of the dead are over."""
    with Ledger.open(url, clock=lambda: time.time() + 60) as ledger:
        for run in ledger.runs():
            if run.released is None:
                ledger.release_run(run.id)
        for name in NAMES:
            if ledger.megabatch(name).state is State.STAGING:
                fence = ledger.claim_staging(name, budget=BUDGET, worker="last")
                ledger.give_up(name, fence, reason="over")
        for row in sorted(ledger.megabatches(), key=lambda row: -row.reserved):  # makes room first
            remove(ledger, row.id)
        assert ledger.reserved() == 0
        assert {row.state for row in ledger.megabatches()} == {State.REMOVED}


def remove(ledger: Ledger, name: str) -> None:
    """Stage a megabatch where that has to be, and remove it."""
    if ledger.megabatch(name).state is State.PLANNED:
        fence = ledger.claim_staging(name, budget=BUDGET, worker="last")
        ledger.ready(name, fence, size=NEED)
    fence = ledger.claim_removal(name, worker="last", abandon=True)
    if fence is not None:
        ledger.removed(name, fence)
