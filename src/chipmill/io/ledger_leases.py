"""Leases on megabatches, one transaction each: staging, giving up, removing."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection, select, update

from chipmill.errors import BudgetError, BusyError, LedgerError, RequestError, StaleFenceError
from chipmill.io import ledger_tables as tables
from chipmill.io.ledger_outbox import post
from chipmill.io.ledger_plans import keep_reports, next_generation, plan_wanted, serve
from chipmill.io.ledger_rows import MegabatchRow, lock_megabatch, move, reserved_bytes
from chipmill.io.ledger_runs import readers
from chipmill.model.megabatch import State

_LEASED: Final = (
    State.STAGING,
    State.REMOVING,
    State.PLANNED,
    State.REMOVED,
)  # the last two: swept


def claim_staging(
    connection: Connection,
    megabatch: str,
    *,
    budget: int,
    worker: str,
    lease: float,
    need: int | None,
    at: float,
) -> int:
    """Take a planned megabatch, or one whose worker is gone, to stage it; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    until = at + lease
    need = row.bytes if need is None else need
    if row.state is State.STAGING:
        return _go_on(connection, row, budget=budget, need=need, worker=worker, until=until, at=at)
    if row.state is not State.PLANNED:
        raise BusyError(
            f"megabatch {row.id} is {row.state}, not planned: there is nothing to stage"
        )
    _check_free(row, at=at)
    _check_budget(connection, row, budget=budget, need=need)
    serve(connection, row.plan, at=at)
    return move(
        connection,
        row,
        State.STAGING,
        actor=worker,
        at=at,
        reserved=need,
        fence=row.fence + 1,
        lease_until=until,
        worker=worker,
        reason="",
    ).fence


def renew(connection: Connection, megabatch: str, fence: int, *, until: float) -> None:
    """Make a lease end later; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    check_fence(row, fence, states=_LEASED if row.lease_until else ())
    table = tables.megabatch
    connection.execute(update(table).where(table.c.id == row.id).values(lease_until=until))


def ready(connection: Connection, megabatch: str, fence: int, *, size: int, at: float) -> State:
    """Record that a megabatch is whole on fast storage; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    check_fence(row, fence, states=(State.STAGING,))
    if not 0 <= size <= row.reserved:
        raise LedgerError(
            f"megabatch {row.id} has {size} bytes on fast storage but reserved {row.reserved}; "
            "give it up and plan it with its true need"
        )
    row = move(
        connection, row, State.READY, actor=row.worker, at=at, reserved=size, lease_until=0.0
    )
    waiting = readers(connection, row.plan)
    if waiting:
        names = "run " + ", ".join(reader.id for reader in waiting)
        row = move(connection, row, State.IN_USE, actor=names, at=at)
    return row.state


def give_up(connection: Connection, megabatch: str, fence: int, *, reason: str, at: float) -> None:
    """Put a megabatch back among the planned ones; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    check_fence(row, fence, states=(State.STAGING,))
    changes = {"reserved": 0, "lease_until": 0.0}
    move(
        connection,
        row,
        State.PLANNED,
        actor=row.worker,
        why=reason,
        at=at,
        reason=reason,
        **changes,
    )


def claim_removal(
    connection: Connection,
    megabatch: str,
    *,
    worker: str,
    lease: float,
    abandon: bool,
    why: str,
    at: float,
) -> int | None:
    """Put a tombstone on a megabatch; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    until = at + lease
    if row.state is State.REMOVED:
        return None
    if row.state is State.REMOVING:
        return take_over(connection, row, worker=worker, until=until, at=at, why=why)
    allowed = {State.COMPLETE, State.READY} if abandon else {State.COMPLETE}
    if row.state not in allowed:
        raise BusyError(f"megabatch {row.id} is {row.state}; only a complete one may be removed")
    changes = {"fence": row.fence + 1, "lease_until": until}
    return move(
        connection, row, State.REMOVING, actor=worker, why=why, at=at, worker=worker, **changes
    ).fence


def removed(connection: Connection, megabatch: str, fence: int, *, at: float) -> None:
    """Release the bytes of a megabatch whose files are gone; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    check_fence(row, fence, states=(State.REMOVING,))
    row = move(connection, row, State.REMOVED, actor=row.worker, at=at, reserved=0, lease_until=0.0)
    if readers(connection, row.plan):
        plan_wanted(connection, row.plan, at=at)


def plan_again(
    connection: Connection, megabatch: str, *, run: str, who: str, why: str, at: float
) -> int:
    """Begin the next generation of a removed megabatch; see `Ledger`."""
    row = lock_megabatch(connection, megabatch)
    if row.state is not State.REMOVED:
        raise BusyError(f"megabatch {row.id} is {row.state}; only a removed one is planned again")
    _check_free(row, at=at)
    reading = [reader.id for reader in readers(connection, row.plan)]
    if run and run not in reading:
        raise RequestError(
            f"no run {run} reads plan {row.plan}; name one of {', '.join(reading) or 'none'}"
        )
    number = next_generation(connection, row, actor=who, why=why, at=at)
    if run:
        keep_reports(connection, row, without=run)
    if reading:
        post(connection, "stage", row.plan, key=f"stage-{row.id}-g{number}", at=at)
    return number


def _go_on(
    connection: Connection,
    row: MegabatchRow,
    *,
    budget: int,
    need: int,
    worker: str,
    until: float,
    at: float,
) -> int:
    """Take over a staging; where it needs more than was reserved and that is free, reserve it.

    Where it is not, the worker learns it at the end and gives up, and the next claim waits.
    """
    more = need - row.reserved
    lacks = more > 0 and _reserved(connection) + more > budget
    reserved = row.reserved if lacks else max(need, row.reserved)
    return take_over(connection, row, worker=worker, until=until, at=at, reserved=reserved)


def take_over(
    connection: Connection,
    row: MegabatchRow,
    *,
    worker: str,
    until: float,
    at: float,
    why: str = "",
    reserved: int | None = None,
) -> int:
    """Give a lease that has ended, or that nobody has, to a worker; gives the fence.

    Raises:
        BusyError: The lease lasts.
    """
    _check_free(row, at=at)
    changes = {"fence": row.fence + 1, "lease_until": until}
    changes["reserved"] = row.reserved if reserved is None else reserved
    return move(
        connection, row, row.state, actor=worker, why=why, at=at, worker=worker, **changes
    ).fence


def check_fence(row: MegabatchRow, fence: int, *, states: Collection[State]) -> None:
    """See that a lease is still the latest, and its megabatch where the lease is for.

    Raises:
        StaleFenceError: It is not.
    """
    if row.state not in states or row.fence != fence:
        raise StaleFenceError(
            f"lease {fence} on megabatch {row.id} is over: it is {row.state} under lease "
            f"{row.fence}; stop touching its files"
        )


def _check_free(row: MegabatchRow, *, at: float) -> None:
    if row.lease_until > at:
        raise BusyError(
            f"megabatch {row.id} is {row.state} by {row.worker or 'another worker'}, whose lease "
            f"lasts {row.lease_until - at:.0f} s more; wait for it"
        )


def _reserved(connection: Connection) -> int:
    """Add up what is reserved, under the lock of whoever reserves."""
    connection.execute(select(tables.budget.c.id).with_for_update())
    return reserved_bytes(connection)


def _check_budget(connection: Connection, row: MegabatchRow, *, budget: int, need: int) -> None:
    if need > budget:
        raise BudgetError(
            f"megabatch {row.id} needs {need} bytes and the whole budget is {budget}: it can "
            "never fit; raise CHIPMILL_BUDGET or plan fewer scenes in a megabatch"
        )
    reserved = _reserved(connection)
    if reserved + need > budget:
        raise BudgetError(
            f"megabatch {row.id} needs {need} bytes, {reserved} of the budget of {budget} are "
            "reserved; wait until a megabatch is complete and removed, or raise CHIPMILL_BUDGET"
        )
