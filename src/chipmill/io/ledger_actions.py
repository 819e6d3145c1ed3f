"""What people did to the ledger by hand, one transaction each, and the record of it."""

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from chipmill.errors import BusyError, RequestError
from chipmill.io import ledger_tables as tables
from chipmill.io.ledger_outbox import post
from chipmill.io.ledger_rows import lock_megabatch
from chipmill.model.megabatch import State


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRow:
    """Something that somebody did by hand."""

    id: int
    at: float
    """Seconds since 1970."""

    actor: str
    what: str
    subject: str
    """A run, a megabatch, or the request that it was about."""


def note(connection: Connection, what: str, subject: str, *, actor: str, at: float) -> None:
    """Record that somebody did something by hand."""
    values = {"what": what, "subject": subject, "actor": actor, "at": at}
    connection.execute(insert(tables.action).values(values))


def actions(connection: Connection, *, limit: int) -> list[ActionRow]:
    """Read what people did, newest first."""
    table = tables.action
    found = connection.execute(select(table).order_by(table.c.id.desc()).limit(limit))
    return [ActionRow(**row) for row in found.mappings()]


def send_now(connection: Connection, number: int, *, actor: str, at: float) -> str:
    """Make a row of the outbox due at once; see `Ledger`."""
    table = tables.outbox
    waiting = (table.c.id == number, table.c.sent_at.is_(None))
    found = connection.execute(select(table.c.kind, table.c.subject).where(*waiting)).one_or_none()
    if found is None:
        raise RequestError(f"the outbox has no row {number} that waits; it may be sent by now")
    connection.execute(update(table).where(*waiting).values(next_try=at, attempts=0))
    subject = f"{found.kind} of {found.subject}"
    note(connection, "send now", subject, actor=actor, at=at)
    return subject


def ask_again(connection: Connection, megabatch: str, *, actor: str, at: float) -> str:
    """Ask for the flow run that brings a megabatch on; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    if row.state in (State.PLANNED, State.STAGING):
        kind, subject = "stage", row.plan
    elif row.state in (State.COMPLETE, State.REMOVING):
        kind, subject = "cleanup", row.id
    else:
        raise BusyError(f"megabatch {row.id} is {row.state}: no flow run would bring it on")
    # A new key: the flow run that came of the first request has ended, well or not.
    post(connection, kind, subject, key=f"{kind}-{subject}-asked-{round(at * 1000)}", at=at)
    note(connection, f"ask for {kind}", megabatch, actor=actor, at=at)
    return kind
