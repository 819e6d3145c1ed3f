"""The ledger's tables as they are in a database: made, recognised and brought up to date."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, insert, inspect, select, text

from chipmill.errors import LedgerError
from chipmill.io import ledger_tables as tables

SCHEMA: Final = "chipmill"
"""Where the tables are on PostgreSQL, unless the URL sets a `search_path` of its own."""

_MIGRATIONS: Final = Path(__file__).with_name("ledger_migrations")
_LOCK_NUMBER: Final = 0x636D  # "cm": PostgreSQL's advisory lock while tables are made
_BEFORE_VERSIONS: Final = "public"  # where the tables were on PostgreSQL before they had a version


def bring_up_to_date(connection: Connection) -> None:
    """Make the tables, or change them to what this version of chipmill reads.

    All in the transaction of the connection: who is killed within it has changed nothing, and who
    comes at the same moment waits and then finds the work done.

    Raises:
        LedgerError: The tables are of a later version, or of something else.
    """
    if _version(connection) == tables.VERSION:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
        _find_schema(connection)
    if _version(connection) == tables.VERSION:
        return  # another process was quicker
    _migrate(connection)
    _check_columns(connection)
    if connection.scalar(select(tables.budget.c.id)) is None:
        connection.execute(insert(tables.budget).values(id=1))


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(tables.VERSION_TABLE):
        return None
    return connection.scalar(text(f"SELECT version_num FROM {tables.VERSION_TABLE}"))  # noqa: S608  a constant


def _find_schema(connection: Connection) -> None:
    """Make the schema, and take in the tables of a ledger that had none of its own."""
    if connection.scalar(text("SELECT current_schema()")) is not None:
        return
    connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    old = set(inspect(connection).get_table_names(schema=_BEFORE_VERSIONS))
    if {"budget", "plan", "megabatch", "run", "done", "history", "outbox"} <= old:
        for name in sorted(old & tables.metadata.tables.keys()):
            connection.execute(text(f'ALTER TABLE {_BEFORE_VERSIONS}."{name}" SET SCHEMA {SCHEMA}'))


def _migrate(connection: Connection) -> None:
    # Half a second of imports, which only a new or an old database needs.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = _version(connection)
    if found is not None and found not in known:
        raise LedgerError(
            f"the ledger's tables are of version {found}, and this chipmill knows them up to "
            f"{tables.VERSION}; install the newer chipmill that changed them"
        )
    command.upgrade(config, "head")


def _check_columns(connection: Connection) -> None:
    """See that the tables have all columns: what had no version may have been something else."""
    found = inspect(connection)
    for table in tables.metadata.sorted_tables:
        lacks = {column.name for column in table.columns} - {
            column["name"] for column in found.get_columns(table.name)
        }
        if lacks:
            raise LedgerError(
                f"the table {table.name} has no column {', '.join(sorted(lacks))}: this database "
                "is no ledger; set CHIPMILL_LEDGER to another, or to a schema of its own"
            )
