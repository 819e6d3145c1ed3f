"""How far staging is: one row a megabatch, for people; nothing is decided by it."""

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from chipmill.errors import StaleFenceError
from chipmill.io import ledger_tables as tables
from chipmill.model.megabatch import State


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressRow:
    """How far staging a megabatch is, and how far it was when this lease first said so."""

    megabatch: str
    fence: int
    first_at: float
    """Seconds since 1970, as `at`."""

    first_size: int
    first_scenes: int
    at: float
    scenes: int
    """Scenes that are on fast storage."""

    of: int
    """Scenes of the megabatch."""

    size: int
    """Bytes that are on fast storage."""


def note(
    connection: Connection,
    megabatch: str,
    fence: int,
    *,
    scenes: int,
    of: int,
    size: int,
    at: float,
) -> None:
    """Write down how far the holder of a lease is; see `Ledger`."""
    table, row = tables.progress, tables.megabatch
    mine = (row.c.id == megabatch, row.c.fence == fence, row.c.state == State.STAGING)
    if connection.scalar(select(row.c.id).where(*mine)) is None:
        raise StaleFenceError(
            f"lease {fence} on megabatch {megabatch} is over; stop touching its files"
        )
    values = {"scenes": scenes, "of": of, "size": size, "at": at}
    same = (table.c.megabatch == megabatch, table.c.fence == fence)
    if connection.execute(update(table).where(*same).values(values)).rowcount:
        return
    values |= {"fence": fence, "first_at": at, "first_size": size, "first_scenes": scenes}
    earlier = update(table).where(table.c.megabatch == megabatch).values(values)
    if not connection.execute(earlier).rowcount:
        connection.execute(insert(table).values(megabatch=megabatch, **values))


def progress(connection: Connection) -> list[ProgressRow]:
    """Read how far each staging is that has said so, by megabatch."""
    table, row = tables.progress, tables.megabatch
    present = (row.c.id == table.c.megabatch, row.c.fence == table.c.fence)
    wanted = select(table).join(row, present[0] & present[1])
    found = connection.execute(wanted.where(row.c.state == State.STAGING).order_by(row.c.id))
    return [ProgressRow(**values) for values in found.mappings()]
