"""The outbox: flow runs to start, written with their cause and kept until Prefect has them."""

from typing import Literal

from sqlalchemy import Connection, insert, select, update

from chipmill.errors import RequestError
from chipmill.io import ledger_tables as tables
from chipmill.io.ledger_rows import OutboxRow


def post(
    connection: Connection, kind: Literal["cleanup", "stage"], subject: str, *, key: str, at: float
) -> None:
    """Ask for a flow run, once for each key."""
    table = tables.outbox
    if connection.scalar(select(table.c.id).where(table.c.key == key)) is not None:
        return
    values = {"kind": kind, "subject": subject, "key": key, "created": at, "next_try": at}
    connection.execute(insert(table).values(values))


def pending(connection: Connection, *, limit: int, at: float) -> list[OutboxRow]:
    """Read what is due, oldest first; see `Ledger`."""
    table = tables.outbox
    columns = (table.c.id, table.c.kind, table.c.subject, table.c.key, table.c.attempts)
    due = select(*columns, table.c.error).where(table.c.sent_at.is_(None), table.c.next_try <= at)
    found = connection.execute(due.order_by(table.c.id).limit(limit))
    return [OutboxRow(**row) for row in found.mappings()]


def sent(connection: Connection, number: int, *, flow_run: str, at: float) -> None:
    """Record the flow run; see `Ledger`."""
    values: dict[str, object] = {"sent_at": at, "flow_run": flow_run, "error": ""}
    _change(connection, number, values)


def postpone(connection: Connection, number: int, *, error: str, next_try: float) -> None:
    """Record a failed try; see `Ledger`."""
    attempts = tables.outbox.c.attempts + 1
    _change(connection, number, {"attempts": attempts, "error": error, "next_try": next_try})


def _change(connection: Connection, number: int, values: dict[str, object]) -> None:
    table = tables.outbox
    if connection.execute(update(table).where(table.c.id == number).values(values)).rowcount != 1:
        raise RequestError(f"the outbox has no row {number}; take one from `pending`")
