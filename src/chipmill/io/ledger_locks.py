"""Locks that one worker holds at a time, for a while, one transaction each."""

from sqlalchemy import Connection, insert, select, update

from chipmill.errors import BusyError, StaleFenceError
from chipmill.io import ledger_tables as tables


def take(connection: Connection, name: str, *, worker: str, until: float, at: float) -> int:
    """Take a lock that nobody holds, or whose holder is gone; see `Ledger`."""
    table = tables.lock
    row = connection.execute(select(table).where(table.c.name == name).with_for_update()).first()
    if row is None:
        values = {"name": name, "fence": 1, "worker": worker, "lease_until": until}
        connection.execute(insert(table).values(**values))
        return 1
    if row.lease_until > at:
        raise BusyError(
            f"{row.worker} holds the lock {name!r} for {row.lease_until - at:.0f} s more; wait"
        )
    values = {"fence": row.fence + 1, "worker": worker, "lease_until": until}
    connection.execute(update(table).where(table.c.name == name).values(**values))
    return row.fence + 1


def extend(connection: Connection, name: str, fence: int, *, until: float) -> None:
    """Hold a lock longer, or let it go by a time that is over; see `Ledger`."""
    table = tables.lock
    mine = (table.c.name == name) & (table.c.fence == fence)
    if not connection.execute(update(table).where(mine).values(lease_until=until)).rowcount:
        raise StaleFenceError(f"the lock {name!r} is lost: another worker has taken it")
