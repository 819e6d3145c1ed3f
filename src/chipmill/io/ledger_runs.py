"""Runs and their reports, one transaction each: begin, complete, release."""

import hashlib
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Select, and_, func, insert, select, update

from chipmill.errors import BusyError, RequestError
from chipmill.formats.webhook import MegabatchCompleted, MegabatchCompletedData
from chipmill.io import ledger_tables as tables
from chipmill.io.ledger_actions import note
from chipmill.io.ledger_outbox import post
from chipmill.io.ledger_plans import plan_wanted
from chipmill.io.ledger_rows import (
    MegabatchRow,
    RunRow,
    UnreadRow,
    lock_megabatch,
    lock_plan,
    lock_state,
    move,
)
from chipmill.model.megabatch import State

_NOT_YET: Final = {State.PLANNED: 409, State.STAGING: 425, State.READY: 409}
"""What a report is answered. Of one that is staged the manifest may be there before the ledger says
so, to a quick trainer: it reports again."""

_TO_READ: Final = (State.PLANNED, State.STAGING, State.READY, State.IN_USE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a trainer is told."""

    status: int
    """HTTP status."""

    note: str


def begin_run(
    connection: Connection, run: str, *, attempt: int, world: int, plan: str, at: float
) -> list[str]:
    """Register an attempt of a run and give it what is ready; see `Ledger`."""
    lock_plan(connection, plan)
    _check_attempt(connection, run, attempt)
    known = _reader(connection, run, plan)
    if known is not None and known.attempt == attempt and known.world != world:
        raise BusyError(
            f"attempt {attempt} of run {run} began with world {known.world}, not {world}; "
            "begin another attempt"
        )
    begun = known.begun if known is not None and known.attempt == attempt else at
    values = {"attempt": attempt, "world": world, "begun": begun, "released": None}
    if known is None:
        connection.execute(insert(tables.run).values(id=run, plan=plan, **values))
    else:
        same = (tables.run.c.id == run, tables.run.c.plan == plan)
        connection.execute(update(tables.run).where(*same).values(**values))
    post(connection, "stage", plan, key=f"stage-{plan}-{run}-{attempt}", at=at)
    plan_wanted(connection, plan, at=at)
    rows = lock_state(connection, plan, state=State.READY)
    return [move(connection, row, State.IN_USE, actor=f"run {run}", at=at).id for row in rows]


def release_run(connection: Connection, run: str, *, plan: str, actor: str, at: float) -> list[str]:
    """Stop waiting for a run; see `Ledger`."""
    table = tables.run
    meant = (table.c.id == run, table.c.plan == plan) if plan else (table.c.id == run,)
    plans = connection.scalars(select(table.c.plan).where(*meant).order_by(table.c.plan)).all()
    where = f" on plan {plan}" if plan else ""
    if not plans:
        raise RequestError(
            f"the ledger knows no run {run!r}{where}; `chipmill ledger show` shows the runs"
        )
    for each in plans:
        lock_plan(connection, each)
    waiting = table.c.released.is_(None)
    connection.execute(update(table).where(*meant, waiting).values(released=at))
    rows = [row for each in plans for row in lock_state(connection, each, state=State.IN_USE)]
    note(connection, "release", f"run {run}{where}", actor=actor, at=at)
    cause = f"release of run {run} by {actor}"
    return [row.id for row in rows if _complete_if_all(connection, row, actor=cause, at=at)]


def complete(
    connection: Connection, message_id: str, body: bytes, *, message: MegabatchCompleted, at: float
) -> Answer:
    """Take one rank's report with its effect; see `Ledger`."""
    data = message.data
    try:
        row = lock_megabatch(connection, data.megabatch)
    except RequestError as err:
        return Answer(404, str(err))
    digest = hashlib.sha256(body).hexdigest()
    answer = _earlier(connection, data.run, message_id, digest) or _refusal(connection, row, data)
    if answer is not None:
        return answer
    answer = Answer(200, _record(connection, row, data, at=at))
    # Only what took effect is kept: a refused report may be right later, after its run began.
    values = {"run": data.run, "message": message_id, "digest": digest, "at": at}
    values |= {"status": answer.status, "note": answer.note}
    connection.execute(insert(tables.delivery).values(values))
    return answer


def readers(connection: Connection, plan: str) -> list[RunRow]:
    """Read the runs that a plan's megabatches wait for, by name."""
    wanted = _runs().where(tables.run.c.plan == plan, tables.run.c.released.is_(None))
    return _fetch(connection, wanted)


def runs(connection: Connection, plan: str | None) -> list[RunRow]:
    """Read all runs, of one plan or of all, by name."""
    wanted = _runs() if plan is None else _runs().where(tables.run.c.plan == plan)
    return _fetch(connection, wanted)


def unread(connection: Connection, plan: str) -> list[UnreadRow]:
    """Read what each run that counts has still to report; see `Ledger`."""
    row, run, done = tables.megabatch, tables.run, tables.done
    here = (row.c.plan == plan, row.c.state.in_(_TO_READ))
    mine = (run.c.id == done.c.run, run.c.attempt == done.c.attempt, run.c.plan == plan)
    counted = select(done.c.megabatch, done.c.generation, run.c.id)
    counted = counted.join(run, and_(*mine)).join(row, row.c.id == done.c.megabatch).where(*here)
    counted = counted.group_by(done.c.megabatch, done.c.generation, run.c.id, run.c.world)
    whole = counted.having(func.count() == run.c.world)
    reported = {tuple(each) for each in connection.execute(whole)}
    before = {(name, reader) for name, _, reader in reported}
    wanted = select(row.c.id, row.c.number, row.c.generation).where(*here).order_by(row.c.id)
    rows = connection.execute(wanted).all()
    return [
        UnreadRow(run=reader, number=number, again=(name, reader) in before)
        for reader in [each.id for each in readers(connection, plan)] or [""]
        for name, number, generation in rows
        if (name, generation, reader) not in reported
    ]


def _runs() -> Select[tuple[object, ...]]:
    return select(tables.run).order_by(tables.run.c.id, tables.run.c.plan)


def _fetch(connection: Connection, wanted: Select[tuple[object, ...]]) -> list[RunRow]:
    return [RunRow(**row) for row in connection.execute(wanted).mappings()]


def _reader(connection: Connection, run: str, plan: str) -> RunRow | None:
    found = _fetch(connection, _runs().where(tables.run.c.id == run, tables.run.c.plan == plan))
    return found[0] if found else None


def _check_attempt(connection: Connection, run: str, attempt: int) -> None:
    begun = select(func.max(tables.run.c.attempt)).where(tables.run.c.id == run)
    newest = connection.scalar(begun) or 0
    if attempt < newest:
        raise BusyError(
            f"attempt {attempt} of run {run} is a zombie: attempt {newest} has begun; stop it"
        )


def _earlier(connection: Connection, run: str, message_id: str, digest: str) -> Answer | None:
    table = tables.delivery
    wanted = select(table).where(table.c.run == run, table.c.message == message_id)
    found = connection.execute(wanted).mappings().one_or_none()
    if found is None:
        return None
    if found["digest"] != digest:
        return Answer(409, f"message {message_id} came before with another body")
    return Answer(found["status"], found["note"])


def _refusal(
    connection: Connection, row: MegabatchRow, data: MegabatchCompletedData
) -> Answer | None:
    reader = _reader(connection, data.run, row.plan)
    if reader is not None and data.attempt < reader.attempt:
        # Of another plan, the last word of an earlier attempt still counts.
        return Answer(409, f"attempt {data.attempt} is a zombie: {reader.attempt} has begun")
    if reader is None or data.attempt > reader.attempt:
        return Answer(409, f"attempt {data.attempt} of run {data.run} has not begun on this plan")
    if data.world != reader.world:
        return Answer(422, f"world is {data.world}, the run began with {reader.world}")
    again = row.state is State.PLANNED and row.generation > 1
    if not again and (status := _NOT_YET.get(row.state)):
        return Answer(status, f"megabatch {row.id} is {row.state}, not in use")
    if row.state is State.IN_USE and reader.released is not None:
        return Answer(409, f"run {data.run} was released; begin it again")
    return None


def _record(
    connection: Connection, row: MegabatchRow, data: MegabatchCompletedData, *, at: float
) -> str:
    _note_rank(connection, row, data)
    actor = f"run {data.run} rank {data.rank}"
    if row.state is State.PLANNED and _all_have_reported(connection, row):
        why = "each run has had it"
        move(connection, row, State.REMOVED, actor=actor, why=why, at=at)
    if row.state is not State.IN_USE:
        return "complete"  # late: the others have not waited for this rank, or it reports again
    if _complete_if_all(connection, row, actor=actor, why=_checkpoint(data), at=at):
        return "complete"
    reader = _reader(connection, data.run, row.plan)
    if reader is not None and _has_reported(connection, row, reader):
        # The others keep it there, and this run may want another now.
        key = f"stage-{row.id}-g{row.generation}-{reader.id}-{reader.attempt}"
        post(connection, "stage", row.plan, key=key, at=at)
    return "recorded"


def _note_rank(connection: Connection, row: MegabatchRow, data: MegabatchCompletedData) -> None:
    table = tables.done
    report = (table.c.megabatch == row.id, table.c.generation == row.generation)
    report += (table.c.run == data.run, table.c.rank == data.rank)
    updated = connection.execute(update(table).where(*report).values(attempt=data.attempt))
    if updated.rowcount == 0:
        values = {"megabatch": row.id, "generation": row.generation, "run": data.run}
        values |= {"rank": data.rank, "attempt": data.attempt}
        connection.execute(insert(table).values(values))


def _checkpoint(data: MegabatchCompletedData) -> str:
    """Name the checkpoint beyond a megabatch, in what every terminal and database takes."""
    name = data.checkpoint or ""
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name
    )
    return f"checkpoint {shown}" if shown else ""


def _complete_if_all(
    connection: Connection, row: MegabatchRow, *, actor: str, at: float, why: str = ""
) -> bool:
    """Complete a locked megabatch in use when nobody that counts still reads it."""
    if not _all_have_reported(connection, row):
        return False
    row = move(connection, row, State.COMPLETE, actor=actor, why=why, at=at)
    post(connection, "cleanup", row.id, key=f"cleanup-{row.id}-g{row.generation}", at=at)
    return True


def _all_have_reported(connection: Connection, row: MegabatchRow) -> bool:
    return all(_has_reported(connection, row, reader) for reader in readers(connection, row.plan))


def _has_reported(connection: Connection, row: MegabatchRow, reader: RunRow) -> bool:
    """Tell whether all ranks of a run's present attempt have reported this generation."""
    table = tables.done
    mine = (table.c.megabatch == row.id, table.c.generation == row.generation)
    mine += (table.c.run == reader.id, table.c.attempt == reader.attempt)
    count = select(func.count()).select_from(table).where(*mine)
    return connection.scalar(count) == reader.world
