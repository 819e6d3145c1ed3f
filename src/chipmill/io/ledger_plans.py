"""Plans and what the ledger knows of their megabatches, one transaction each."""

from collections.abc import Sequence

from sqlalchemy import Connection, exists, insert, literal, or_, select, update

from chipmill.errors import RequestError
from chipmill.io import ledger_tables as tables
from chipmill.io.ledger_rows import (
    HistoryRow,
    MegabatchRow,
    PlanRow,
    lock_state,
    move,
    unknown_megabatch,
    unknown_plan,
)
from chipmill.model.megabatch import State, megabatch_id


def register(
    connection: Connection, plan: str, request: str, *, needs: Sequence[int], at: float
) -> None:
    """Record a plan and its megabatches; see `Ledger`."""
    if not needs or min(needs) < 0:
        raise RequestError(
            f"plan {plan} has {len(needs)} megabatches, the least needs "
            f"{min(needs, default=0)} bytes; a plan needs at least one, and none below 0 bytes"
        )
    rows = [
        {"id": megabatch_id(plan, number), "plan": plan, "number": number, "bytes": need}
        for number, need in enumerate(needs)
    ]
    known = select(tables.plan.c.request).where(tables.plan.c.id == plan).with_for_update()
    registered = connection.scalar(known)
    if registered is None:
        connection.execute(insert(tables.plan).values(id=plan, request=request, created=at))
        connection.execute(insert(tables.megabatch), rows)
        return
    if registered != request or len(megabatches(connection, plan)) != len(rows):
        raise RequestError(
            f"plan {plan} is registered with another request or number of megabatches; "
            "a plan's id must name all that it depends on"
        )
    _renew_needs(connection, plan, needs)


def request(connection: Connection, plan: str) -> str:
    """Read what was planned; see `Ledger`."""
    found = connection.scalar(select(tables.plan.c.request).where(tables.plan.c.id == plan))
    if found is None:
        raise unknown_plan(plan)
    return str(found)


def megabatch(connection: Connection, name: str) -> MegabatchRow:
    """Read one megabatch; see `Ledger`."""
    wanted = select(tables.megabatch).where(tables.megabatch.c.id == name)
    found = connection.execute(wanted).mappings().one_or_none()
    if found is None:
        raise unknown_megabatch(name)
    return MegabatchRow(**found)


def megabatches(connection: Connection, plan: str | None) -> list[MegabatchRow]:
    """Read many megabatches; see `Ledger`."""
    wanted = select(tables.megabatch).order_by(tables.megabatch.c.id)
    if plan is not None:
        wanted = wanted.where(tables.megabatch.c.plan == plan)
    return [MegabatchRow(**row) for row in connection.execute(wanted).mappings()]


def history(connection: Connection, name: str) -> list[HistoryRow]:
    """Read each change of a megabatch; see `Ledger`."""
    table = tables.history
    wanted = select(table).where(table.c.megabatch == name).order_by(table.c.version)
    return [HistoryRow(**row) for row in connection.execute(wanted).mappings()]


def to_serve(connection: Connection, named: str) -> list[PlanRow]:
    """Read the plans that a run reads, and a named one; see `Ledger`."""
    table, run = tables.plan, tables.run
    is_read = exists().where(run.c.plan == table.c.id, run.c.released.is_(None))
    wanted = select(table.c.id, table.c.served).where(or_(is_read, table.c.id == named))
    return [PlanRow(**row) for row in connection.execute(wanted.order_by(table.c.id)).mappings()]


def serve(connection: Connection, plan: str, *, at: float) -> None:
    """Record that a locked plan is given space."""
    connection.execute(update(tables.plan).where(tables.plan.c.id == plan).values(served=at))


def next_generation(
    connection: Connection, row: MegabatchRow, *, actor: str, why: str, at: float
) -> int:
    """Plan a locked, removed megabatch again; gives the number of the generation."""
    number = row.generation + 1
    move(connection, row, State.PLANNED, actor=actor, why=why, at=at, generation=number)
    return number


def plan_wanted(connection: Connection, plan: str, *, at: float) -> None:
    """Plan again what was removed from a locked plan, and a run that reads it has never had.

    That is what was removed before any run had it, and what a run has not reported in any
    generation. What the other runs have reported counts for the new generation as well.
    """
    wanted = _abandoned(connection, plan) | _never_reported(connection, plan)
    if wanted:
        for row in lock_state(connection, plan, state=State.REMOVED):
            if row.id in wanted:
                next_generation(connection, row, actor="plan again", why="a run reads it", at=at)
                keep_reports(connection, row)


def _abandoned(connection: Connection, plan: str) -> set[str]:
    table, change = tables.megabatch, tables.history
    wanted = select(table.c.id).where(
        table.c.plan == plan,
        table.c.state == State.REMOVED,
        change.c.megabatch == table.c.id,
        change.c.generation == table.c.generation,
        change.c.was == State.READY,
        change.c.now == State.REMOVING,
    )
    return set(connection.scalars(wanted))


def _never_reported(connection: Connection, plan: str) -> set[str]:
    table, run, done = tables.megabatch, tables.run, tables.done
    reported = exists().where(done.c.megabatch == table.c.id, done.c.run == run.c.id)
    here = table.join(run, run.c.plan == table.c.plan)
    wanted = select(table.c.id).select_from(here)
    wanted = wanted.where(table.c.plan == plan, table.c.state == State.REMOVED)
    wanted = wanted.where(run.c.released.is_(None), ~reported)
    return set(connection.scalars(wanted))


def keep_reports(connection: Connection, before: MegabatchRow, *, without: str = "") -> None:
    """Let what present attempts have reported count for the next generation.

    All but those of one run, which reads it again.
    """
    run, done = tables.run, tables.done
    kept = select(
        done.c.megabatch, literal(before.generation + 1), done.c.run, done.c.rank, done.c.attempt
    ).where(
        done.c.megabatch == before.id,
        done.c.generation == before.generation,
        run.c.plan == before.plan,
        run.c.id == done.c.run,
        run.c.attempt == done.c.attempt,
        run.c.id != without,
    )
    names = ["megabatch", "generation", "run", "rank", "attempt"]
    connection.execute(insert(done).from_select(names, kept))


def _renew_needs(connection: Connection, plan: str, needs: Sequence[int]) -> None:
    table = tables.megabatch
    for row in megabatches(connection, plan):
        if row.state is State.PLANNED and row.bytes != needs[row.number]:
            changed = update(table).where(table.c.id == row.id).values(bytes=needs[row.number])
            connection.execute(changed)
