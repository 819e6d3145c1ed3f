"""Reading the ledger: what looks and changes nothing, and how a database is opened."""

import time
from collections.abc import Callable
from typing import Self, TypeVar

from sqlalchemy import Connection, Engine

from chipmill.io import ledger_outbox as outbox
from chipmill.io import ledger_overview as overview
from chipmill.io import ledger_plans as plans
from chipmill.io import ledger_runs as runs
from chipmill.io.ledger_engine import open_engine, transact
from chipmill.io.ledger_rows import (
    HistoryRow,
    MegabatchRow,
    OutboxRow,
    PlanRow,
    RunRow,
    UnreadRow,
    reserved_bytes,
)

_T = TypeVar("_T")


class LedgerReader:
    """One database; see `Ledger`, which also writes."""

    def __init__(self, engine: Engine, *, patience: float, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._patience = patience
        self._clock = clock

    @classmethod
    def open(
        cls, url: str, *, clock: Callable[[], float] = time.time, patience: float = 30.0
    ) -> Self:
        """Open a ledger; its tables are made, or brought to this version, under a lock.

        Args:
            url: SQLAlchemy URL: SQLite on a local disk of the one host that uses it, or PostgreSQL.
            clock: Gives seconds since 1970, on all hosts to within a fraction of a lease.
            patience: Seconds to wait for locks.
        """
        return cls(open_engine(url, patience=patience), patience=patience, clock=clock)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        """Give the ledger itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.close()

    def plan_request(self, plan: str) -> str:
        """Read what was planned, as it was registered; `RequestError` when unknown."""
        return self._do(lambda c: plans.request(c, plan))

    def megabatch(self, megabatch: str) -> MegabatchRow:
        """Read one megabatch; `RequestError` when unknown."""
        return self._do(lambda c: plans.megabatch(c, megabatch))

    def megabatches(self, plan: str | None = None) -> list[MegabatchRow]:
        """Read the megabatches of one plan or of all, by id."""
        return self._do(lambda c: plans.megabatches(c, plan))

    def plans_to_serve(self, named: str = "") -> list[PlanRow]:
        """Read the plans that a run reads, and one that is named, by id."""
        return self._do(lambda c: plans.to_serve(c, named))

    def history(self, megabatch: str) -> list[HistoryRow]:
        """Read each change of a megabatch, oldest first; empty when it has not changed."""
        return self._do(lambda c: plans.history(c, megabatch))

    def runs(self, plan: str | None = None) -> list[RunRow]:
        """Read the runs on one plan or on all, by name."""
        return self._do(lambda c: runs.runs(c, plan))

    def unread(self, plan: str) -> list[UnreadRow]:
        """Read what each run has still to report of what is planned or there, by run and number.

        Of a plan that no run reads: what one that begins would have to, under an empty name.
        """
        return self._do(lambda c: runs.unread(c, plan))

    def now(self) -> float:
        """Read the ledger's clock, seconds since 1970: leases end by it."""
        return self._clock()

    def reserved(self) -> int:
        """Add up the bytes that all megabatches hold of the budget."""
        return self._do(reserved_bytes)

    def pending(self, *, limit: int = 16) -> list[OutboxRow]:
        """Read flow runs that are not started and due for a try, oldest first."""
        return self._do(lambda c: outbox.pending(c, limit=limit, at=self._clock()))

    def overview(self, *, most: int = 100) -> overview.Overview:
        """Read what a person asks for at a glance; lists have at most `most` rows each."""
        return self._do(lambda c: overview.overview(c, most=most, at=self._clock()))

    def _do(self, work: Callable[[Connection], _T]) -> _T:
        return transact(self._engine, work, patience=self._patience)
