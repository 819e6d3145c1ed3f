"""The ledger's tables, the same on SQLite and PostgreSQL. Times are seconds since 1970."""

from enum import StrEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Enum,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from chipmill.model.megabatch import State

VERSION: Final = "0003"
"""The latest revision of `ledger_migrations`: a change of these tables comes with a new one."""
VERSION_TABLE: Final = "ledger_version"
"""Where a database says which revision it has. Not Alembic's own name for it, which Prefect has."""

metadata: Final = MetaData()

_RowNumber = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys


def _values(states: type[StrEnum]) -> list[str]:
    return [state.value for state in states]


def _state(check: str) -> Enum:
    """Give the type of a column of states, checked by the database under this name."""
    return Enum(
        State,
        name=check,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=_values,
    )


budget: Final = Table(
    "budget",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
)
"""One row and no figure: whoever holds its lock may add up what is reserved and reserve more."""

plan: Final = Table(
    "plan",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("request", Text, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("served", Float(53), nullable=False, server_default="0"),
)
"""What was planned, as JSON, and when one of its megabatches was last given space."""

megabatch: Final = Table(
    "megabatch",
    metadata,
    Column("id", String(22), primary_key=True),
    Column("plan", String(16), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("state", _state("megabatch_state"), nullable=False, server_default=State.PLANNED.value),
    Column("version", Integer, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False, server_default="0"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("lease_until", Float(53), nullable=False, server_default="0"),
    Column("worker", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
    CheckConstraint("bytes >= 0 AND reserved >= 0", name="megabatch_bytes"),
)
"""Where each megabatch is; `bytes` is its need, `reserved` what it may take at this moment."""

run: Final = Table(
    "run",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("plan", String(16), primary_key=True, index=True),
    Column("attempt", Integer, nullable=False),
    Column("world", Integer, nullable=False),
    Column("begun", Float(53), nullable=False),
    Column("released", Float(53)),
)
"""Who reads which plan: a run that trains for several epochs reads several plans."""

done: Final = Table(
    "done",
    metadata,
    Column("megabatch", String(22), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("run", String(128), primary_key=True),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
)
"""Which ranks have reported a megabatch; a report counts in its generation and attempt only."""

delivery: Final = Table(
    "delivery",
    metadata,
    Column("run", String(128), primary_key=True),
    Column("message", String(128), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", Float(53), nullable=False),
)
"""Answers to repeat. The run is in the key: no run can use up the message ids of another."""

history: Final = Table(
    "history",
    metadata,
    Column("megabatch", String(22), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("generation", Integer, nullable=False),
    Column("was", _state("history_was"), nullable=False),
    Column("now", _state("history_now"), nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("why", Text, nullable=False, server_default=""),
)
"""Each change of a megabatch, in order, without a gap."""

progress: Final = Table(
    "progress",
    metadata,
    Column("megabatch", String(22), primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("first_at", Float(53), nullable=False),
    Column("first_size", BigInteger, nullable=False),
    Column("first_scenes", Integer, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("scenes", Integer, nullable=False),
    Column("of", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
)
"""How far the present lease's staging is, and where it was when it first said so, for people."""

action: Final = Table(
    "action",
    metadata,
    Column("id", _RowNumber, primary_key=True, autoincrement=True),
    Column("at", Float(53), nullable=False),
    Column("actor", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("subject", Text, nullable=False),
)
"""What people did by hand: releases, repairs, requests made again."""

outbox: Final = Table(
    "outbox",
    metadata,
    Column("id", _RowNumber, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("subject", String(22), nullable=False),
    Column("key", String(256), nullable=False, unique=True),
    Column("created", Float(53), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_try", Float(53), nullable=False),
    Column("sent_at", Float(53)),
    Column("flow_run", Text),
    Column("error", Text, nullable=False, server_default=""),
    CheckConstraint("kind IN ('cleanup', 'stage')", name="outbox_kind"),
)
"""Flow runs to start, written in the same transaction as their cause."""

Index("history_latest", history.c.now, history.c.at)

Index("outbox_due", outbox.c.sent_at, outbox.c.next_try)

lock: Final = Table(
    "lock",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("worker", Text, nullable=False),
    Column("lease_until", Float(53), nullable=False),
)
"""Who may do what only one may do at a time, where nothing else keeps the others out."""
