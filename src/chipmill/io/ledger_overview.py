"""What a person asks of the ledger at a glance, read in one transaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, or_, select

from chipmill.io import ledger_tables as tables
from chipmill.io.ledger_actions import ActionRow, actions
from chipmill.io.ledger_progress import ProgressRow, progress
from chipmill.io.ledger_rows import MegabatchRow, RunRow, reserved_bytes
from chipmill.io.ledger_runs import runs
from chipmill.model.megabatch import State

_RESTING = (State.PLANNED, State.REMOVED)
"""States in which a megabatch is not on fast storage; there may be thousands of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCount:
    """A plan and how many of its megabatches are in each state."""

    id: str
    created: float
    """Seconds since 1970."""

    states: Mapping[State, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A megabatch in use and the ranks of one run that have not reported it."""

    megabatch: str
    run: str
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A flow run that was asked for: one row of the outbox."""

    id: int
    kind: str
    subject: str
    created: float
    """Seconds since 1970, as `next_try` and `sent_at`."""

    attempts: int
    next_try: float
    sent_at: float | None
    flow_run: str | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The ledger at one moment. Times are seconds since 1970."""

    at: float
    reserved: int
    """Bytes of the budget that all megabatches hold."""

    states: Mapping[State, int]
    """How many megabatches of all plans are in each state."""

    plans: Sequence[PlanCount]
    """Newest first."""

    current: Sequence[MegabatchRow]
    """Megabatches on fast storage, on their way, or given up, by plan and number."""

    progress: Mapping[str, ProgressRow]
    """How far stagings are, by megabatch."""

    runs: Sequence[RunRow]
    waiting: Sequence[Waiting]
    """Who has not reported what, for each megabatch in use and each run that counts."""

    pending: int
    """Requests that Prefect has not taken."""

    oldest_pending: float | None
    requests: Sequence[Request]
    """Those that wait, then the latest that were sent."""

    last_cleanup: float | None
    actions: Sequence[ActionRow]


def overview(connection: Connection, *, most: int, at: float) -> Overview:
    """Read the ledger at one moment; see `Ledger`."""
    waits = tables.outbox.c.sent_at.is_(None)
    queue = select(func.count(), func.min(tables.outbox.c.created)).where(waits)
    pending, oldest = connection.execute(queue).one()
    return Overview(
        at=at,
        reserved=reserved_bytes(connection),
        states=_states(connection),
        plans=_plans(connection, most),
        current=_current(connection, most),
        progress={row.megabatch: row for row in progress(connection)},
        runs=runs(connection, None),
        waiting=_waiting(connection),
        pending=int(pending),
        oldest_pending=oldest,
        requests=_requests(connection, most),
        last_cleanup=connection.scalar(
            select(func.max(tables.history.c.at)).where(tables.history.c.now == State.REMOVED)
        ),
        actions=actions(connection, limit=most),
    )


def _states(connection: Connection) -> dict[State, int]:
    state = tables.megabatch.c.state
    found = connection.execute(select(state, func.count()).group_by(state))
    return {row[0]: row[1] for row in found}


def _plans(connection: Connection, most: int) -> list[PlanCount]:
    table, rows = tables.plan, tables.megabatch
    newest = select(table.c.id, table.c.created).order_by(table.c.created.desc()).limit(most)
    created = {row.id: row.created for row in connection.execute(newest)}
    states: defaultdict[str, dict[State, int]] = defaultdict(dict)
    grouped = select(rows.c.plan, rows.c.state, func.count()).where(rows.c.plan.in_(created))
    for plan, state, count in connection.execute(grouped.group_by(rows.c.plan, rows.c.state)):
        states[plan][state] = count
    return [PlanCount(id=plan, created=when, states=states[plan]) for plan, when in created.items()]


def _current(connection: Connection, most: int) -> list[MegabatchRow]:
    table = tables.megabatch
    given_up = and_(table.c.state == State.PLANNED, table.c.reason != "")
    wanted = select(table).where(or_(table.c.state.not_in(_RESTING), given_up))
    found = connection.execute(wanted.order_by(table.c.id).limit(most))
    return [MegabatchRow(**row) for row in found.mappings()]


def _waiting(connection: Connection) -> list[Waiting]:
    run, row, done = tables.run, tables.megabatch, tables.done
    pairs = select(row.c.id, row.c.generation, run.c.id, run.c.attempt, run.c.world)
    pairs = pairs.join(run, run.c.plan == row.c.plan)
    pairs = pairs.where(row.c.state == State.IN_USE, run.c.released.is_(None))
    found: list[Waiting] = []
    for megabatch, generation, name, attempt, world in connection.execute(
        pairs.order_by(row.c.id, run.c.id)
    ).all():
        mine = (done.c.megabatch == megabatch, done.c.generation == generation)
        mine += (done.c.run == name, done.c.attempt == attempt)
        reported = set(connection.scalars(select(done.c.rank).where(*mine)))
        missing = tuple(rank for rank in range(world) if rank not in reported)
        found.append(Waiting(megabatch=megabatch, run=name, missing=missing))
    return found


def _requests(connection: Connection, most: int) -> list[Request]:
    table = tables.outbox
    columns = (table.c.id, table.c.kind, table.c.subject, table.c.created, table.c.attempts)
    columns += (table.c.next_try, table.c.sent_at, table.c.flow_run, table.c.error)
    order = (table.c.sent_at.is_not(None), table.c.id.desc())
    found = connection.execute(select(*columns).order_by(*order).limit(most))
    return [Request(**row) for row in found.mappings()]
