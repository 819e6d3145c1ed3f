"""A ledger of any earlier version opens as one of this version, whoever comes first."""

import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, make_url, text

from chipmill.errors import LedgerError
from chipmill.io import ledger_migrations, ledger_tables
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import State, megabatch_id

PLAN = "0123456789abcdef"
FIRST = megabatch_id(PLAN, 0)
CROWD = 8
OPEN = """
import os, sys, traceback
import alembic.command
from chipmill.io.ledger import Ledger
gate, opened = os.pipe()
pids = []
for _ in range(int(sys.argv[2])):
    pids.append(os.fork())
    if pids[-1] == 0:
        try:
            os.close(opened)
            os.read(gate, 1)  # gives the end of the file when the parent has made all of us
            with Ledger.open(sys.argv[1]) as ledger:
                os._exit(100 + len(ledger.megabatches()))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
os.close(opened)
print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids))
"""
"""Many processes that open one ledger at one moment; each says how many megabatches it has."""


def make_old(url: str) -> None:
    """Make a ledger as it was before there were versions, with a megabatch that is ready."""
    engine = create_engine(url)
    kind = engine.dialect.name
    script = Path(__file__).with_name(f"first_tables.{kind}.sql").read_text()
    with engine.begin() as connection:
        for statement in script.partition("\n")[2].split(";\n"):
            if statement.strip():
                connection.execute(text(statement))
        connection.execute(text("INSERT INTO budget VALUES (1)"))
        for statement in (
            "INSERT INTO plan VALUES (:plan, '{}', 1.5)",
            """INSERT INTO megabatch (id, plan, number, state, version, bytes, reserved, fence)
            VALUES (:first, :plan, 0, 'ready', 1, 10, 7, 1)""",
            "INSERT INTO history VALUES (:first, 1, 1, 'staging', 'ready', 'w', 2.5)",
        ):
            connection.execute(text(statement), {"plan": PLAN, "first": FIRST})
    engine.dispose()


def is_whole(url: str) -> None:
    """See that the old ledger's content is there and can go on."""
    with Ledger.open(url) as ledger:
        row = ledger.megabatch(FIRST)
        assert (row.state, row.reserved, row.fence) == (State.READY, 7, 1)
        assert [change.actor for change in ledger.history(FIRST)] == ["w"]
        assert ledger.begin_run("run", attempt=1, world=1, plan=PLAN) == [FIRST]
        assert ledger.release_run("run") == [FIRST]


@pytest.mark.parametrize("old", [False, True])
def test_migrations_lead_to_the_tables_of_the_code(url: str, *, old: bool) -> None:
    """A change of the tables without a revision would break each ledger that is there already."""
    if old:
        make_old(url)
    Ledger.open(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        options = {"version_table": ledger_tables.VERSION_TABLE, "compare_type": True}
        found = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(found, ledger_tables.metadata) == []
        assert found.get_current_revision() == ledger_tables.VERSION
    engine.dispose()
    heads = ScriptDirectory(str(Path(ledger_migrations.__path__[0]))).get_heads()
    assert heads == [ledger_tables.VERSION]


def test_a_ledger_without_a_version_is_recognised(url: str) -> None:
    """Its content stays, and it goes on where it was."""
    make_old(url)
    is_whole(url)
    is_whole_again = Ledger.open(url)
    assert is_whole_again.megabatch(FIRST).state is State.COMPLETE
    is_whole_again.close()


@pytest.mark.parametrize("old", [False, True])
def test_processes_that_start_at_once_make_one_ledger(url: str, *, old: bool) -> None:
    """Receiver, workers and commands start together after an upgrade; one of them migrates."""
    if old:
        make_old(url)
    command = [sys.executable, "-c", OPEN, url, str(CROWD)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == [str(100 + old)] * CROWD, done.stderr


def test_a_later_ledger_is_refused(url: str) -> None:
    """An older chipmill would write rows that lack what the later one needs."""
    Ledger.open(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(LedgerError, match=r"version 9999.*up to \d{4}; install the newer"):
        Ledger.open(url)


def test_tables_of_something_else_are_refused(url: str) -> None:
    """Another program's table named `plan` must not become part of a ledger."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE plan (id INTEGER, colour TEXT)"))
    with pytest.raises(LedgerError, match=r"table plan has no column created, request"):
        Ledger.open(url)
    assert inspect(engine).get_table_names() == ["plan"]  # nothing of ours stays
    engine.dispose()


@pytest.fixture
def shared_url(postgres: str) -> str:
    """Give the URL of a new database that another program has begun to use."""
    name = f"shared_{secrets.token_hex(4)}"
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    url = make_url(postgres).set(database=name).render_as_string(hide_password=False)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('of prefect')"))
    engine.dispose()
    return url


@pytest.mark.xdist_group("postgres")
@pytest.mark.parametrize("old", [False, True])
def test_the_ledger_has_a_schema_of_its_own(
    shared_url: str, new_schema: Callable[[], str], *, old: bool
) -> None:
    """It may share Prefect's database, whose tables and whose version are left alone.

    A ledger that lay among them is taken out.
    """
    if old:
        make_old(shared_url)
        is_whole(shared_url)
    else:
        Ledger.open(shared_url).close()
    engine = create_engine(shared_url)
    found = inspect(engine)
    assert found.get_table_names(schema="public") == ["alembic_version"]
    ours = {*ledger_tables.metadata.tables, ledger_tables.VERSION_TABLE}
    assert set(found.get_table_names(schema="chipmill")) == ours
    with engine.connect() as connection:
        kept = connection.scalar(text("SELECT version_num FROM alembic_version"))
    assert kept == "of prefect"
    engine.dispose()
