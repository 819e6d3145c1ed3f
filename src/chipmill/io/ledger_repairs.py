"""What a person does to a megabatch by hand, and what finds it there: one transaction each."""

from sqlalchemy import Connection, update

from chipmill.errors import BusyError
from chipmill.io import ledger_tables as tables
from chipmill.io.ledger_leases import check_fence, take_over
from chipmill.io.ledger_rows import lock_megabatch, move
from chipmill.model.megabatch import State

_LEASED = (State.STAGING, State.REMOVING)
_NOTHING_THERE = (State.PLANNED, State.REMOVED)


def free_lease(connection: Connection, megabatch: str, *, who: str, why: str, at: float) -> None:
    """End a worker's lease; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    if row.state not in _LEASED:
        raise BusyError(f"megabatch {row.id} is {row.state}: nobody has a lease on it")
    # The fence moves on, so that a worker that is alive after all is refused.
    changes = {"fence": row.fence + 1, "lease_until": at}
    move(connection, row, row.state, actor=who, why=why, at=at, worker=who, **changes)


def claim_staging_to_end_it(
    connection: Connection, megabatch: str, *, worker: str, lease: float, at: float
) -> int:
    """Take over a staging whose lease has ended, to give it up; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    if row.state is not State.STAGING:
        raise BusyError(f"megabatch {row.id} is {row.state}: there is no staging to give up")
    return take_over(connection, row, worker=worker, until=at + lease, at=at)


def claim_sweep(
    connection: Connection, megabatch: str, *, worker: str, lease: float, at: float
) -> int:
    """Take the lease on a megabatch that should have no file; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    if row.state not in _NOTHING_THERE:
        raise BusyError(f"megabatch {row.id} is {row.state}: its files are not left over")
    return take_over(connection, row, worker=worker, until=at + lease, at=at, why="sweep")


def swept(connection: Connection, megabatch: str, fence: int) -> None:
    """Let the lease of a sweep go; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    check_fence(row, fence, states=_NOTHING_THERE)
    table = tables.megabatch
    connection.execute(update(table).where(table.c.id == row.id).values(lease_until=0.0))
