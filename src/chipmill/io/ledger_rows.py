"""Rows of the ledger as values, and the one way in which a megabatch changes its state."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection, func, insert, select, update

from chipmill.errors import LedgerError, RequestError
from chipmill.io import ledger_tables as tables
from chipmill.model.megabatch import TRANSITIONS, State

_HINT: Final = "plan it first, or take an id that `chipmill ledger show` shows"


@dataclass(frozen=True, slots=True, kw_only=True)
class MegabatchRow:
    """A megabatch as the ledger knows it."""

    id: str
    plan: str
    number: int
    """Position in the plan, from 0."""

    generation: int
    """1, and one more each time that it is planned again."""

    state: State
    version: int
    """How often it has changed."""

    bytes: int
    """Bytes that staging needs."""

    reserved: int
    """Bytes of the budget that it holds now."""

    fence: int
    """Number of the latest lease; work under an older one is refused."""

    lease_until: float
    """When the lease ends, seconds since 1970; 0 without a lease."""

    worker: str
    """Who had the latest lease."""

    reason: str
    """Why the latest staging was given up; empty when it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A training run on one plan."""

    id: str
    plan: str
    attempt: int
    world: int
    """Ranks that report."""

    begun: float
    """When this attempt began, seconds since 1970."""

    released: float | None
    """When a person said that nobody waits for this run any more; None while it counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadRow:
    """A megabatch that is planned or on fast storage, and that a run has still to report."""

    run: str
    number: int
    again: bool
    """Whether the run's present attempt has reported an earlier generation of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One change of a megabatch."""

    megabatch: str
    version: int
    generation: int
    was: State
    now: State
    actor: str
    at: float
    """Seconds since 1970."""

    why: str
    """What somebody gave as the reason; empty where the change says it all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """A plan that has a turn on fast storage."""

    id: str
    served: float
    """When one of its megabatches was last given space, seconds since 1970; 0 before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """A flow run to be started."""

    id: int
    kind: str
    """`cleanup` or `stage`: the deployment of that name."""

    subject: str
    """Megabatch id for cleanup, plan id for stage."""

    key: str
    """Idempotency key."""

    attempts: int
    """How often it was refused or nobody answered."""

    error: str
    """What the last attempt met; empty before."""


def unknown_megabatch(megabatch: str) -> RequestError:
    """Make the error for an id that no plan has."""
    return RequestError(f"the ledger knows no megabatch {megabatch!r}; {_HINT}")


def unknown_plan(plan: str) -> RequestError:
    """Make the error for a plan that was not registered."""
    return RequestError(f"the ledger knows no plan {plan!r}; {_HINT}")


def lock_plan(connection: Connection, plan: str) -> None:
    """Hold a plan until the transaction ends: its runs and states do not change meanwhile.

    Locks are taken in one order everywhere, so that nobody waits in a ring: plan, megabatches by
    id, budget.

    Raises:
        RequestError: No such plan is registered.
    """
    wanted = select(tables.plan.c.id).where(tables.plan.c.id == plan).with_for_update()
    if connection.scalar(wanted) is None:
        raise unknown_plan(plan)


def lock_megabatch(connection: Connection, megabatch: str) -> MegabatchRow:
    """Hold a megabatch and its plan until the transaction ends, and read it.

    Raises:
        RequestError: No plan has a megabatch of this id.
    """
    table = tables.megabatch
    plan = connection.scalar(select(table.c.plan).where(table.c.id == megabatch))
    if plan is None:
        raise unknown_megabatch(megabatch)
    lock_plan(connection, plan)
    found = connection.execute(select(table).where(table.c.id == megabatch).with_for_update())
    return MegabatchRow(**found.mappings().one())


def lock_state(connection: Connection, plan: str, *, state: State) -> list[MegabatchRow]:
    """Hold and read the megabatches of a locked plan that are in one state, by number."""
    table = tables.megabatch
    wanted = select(table).where(table.c.plan == plan, table.c.state == state)
    found = connection.execute(wanted.order_by(table.c.id).with_for_update())
    return [MegabatchRow(**row) for row in found.mappings()]


def move(
    connection: Connection,
    row: MegabatchRow,
    state: State,
    *,
    actor: str,
    at: float,
    why: str = "",
    **changes: float | str,
) -> MegabatchRow:
    """Change a locked megabatch and write the row of history that says so.

    Args:
        connection: The transaction that holds the lock.
        row: The megabatch as it was read under the lock.
        state: The state to come; the same state for a lease that changes hands.
        actor: Who does it.
        at: Seconds since 1970.
        why: The reason, where one was given.
        **changes: Other columns to set.

    Raises:
        LedgerError: The state may not follow, or somebody changed the row without the lock.
    """
    if state is not row.state and state not in TRANSITIONS[row.state]:
        raise LedgerError(f"megabatch {row.id} is {row.state}; it cannot become {state}")
    after = replace(row, state=state, version=row.version + 1, **changes)
    _write(connection, row, {"state": state, "version": after.version, **changes})
    entry = {"megabatch": row.id, "version": after.version, "generation": after.generation}
    entry |= {"was": row.state, "now": state, "actor": actor, "at": at, "why": why}
    connection.execute(insert(tables.history).values(entry))
    return after


def reserved_bytes(connection: Connection) -> int:
    """Add up what all megabatches hold of the budget."""
    return int(connection.scalar(select(func.sum(tables.megabatch.c.reserved))) or 0)


def _write(connection: Connection, row: MegabatchRow, values: Mapping[str, object]) -> None:
    table = tables.megabatch
    same = (table.c.id == row.id, table.c.version == row.version, table.c.fence == row.fence)
    guarded = update(table).where(*same, table.c.state == row.state).values(**values)
    if connection.execute(guarded).rowcount != 1:
        raise LedgerError(
            f"megabatch {row.id} was changed by somebody without its lock; "
            "let nothing but chipmill write to the ledger"
        )
