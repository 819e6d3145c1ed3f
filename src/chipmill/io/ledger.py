"""The ledger: the record of every megabatch's state, and the only truth about it."""

from collections.abc import Sequence
from typing import Final

from chipmill.formats.webhook import MegabatchCompleted
from chipmill.io import ledger_actions as actions
from chipmill.io import ledger_leases as leases
from chipmill.io import ledger_locks as locks
from chipmill.io import ledger_outbox as outbox
from chipmill.io import ledger_plans as plans
from chipmill.io import ledger_progress as progress
from chipmill.io import ledger_repairs as repairs
from chipmill.io import ledger_runs as runs
from chipmill.io.ledger_reading import LedgerReader
from chipmill.io.ledger_runs import Answer
from chipmill.model.megabatch import State

LEASE: Final = 120.0
"""Seconds that a lease lasts; its worker renews it at a quarter of that."""


class Ledger(LedgerReader):
    """One database; each method is one transaction, safe under threads, processes and hosts.

    All methods raise `TransientError` when the database is locked, full or down, and `LedgerError`
    when it refuses for another reason; what they raise besides is said at each. A state changes
    only by a method that says so, and each change leaves one row of history.
    """

    def register_plan(self, plan: str, request: str, *, needs: Sequence[int]) -> None:
        """Record a plan and its megabatches as planned; the same plan again changes nothing.

        Registered again with other needs, megabatches that are still planned take the new ones.

        Args:
            plan: 16 hex digits.
            request: What was planned, as JSON text.
            needs: Bytes that staging each megabatch needs, in order.

        Raises:
            RequestError: The plan is there with another request or length, or a need is negative.
        """
        self._do(lambda c: plans.register(c, plan, request, needs=needs, at=self._clock()))

    def claim_staging(
        self,
        megabatch: str,
        *,
        budget: int,
        worker: str,
        lease: float = LEASE,
        need: int | None = None,
    ) -> int:
        """Reserve a megabatch's bytes and take the lease to stage it.

        planned → staging; a staging whose lease has ended is taken over, with more bytes where it
        needs more than were reserved and they are free.

        Args:
            megabatch: Its id.
            budget: Bytes that all megabatches together may reserve.
            worker: Who asks, for people.
            lease: Seconds that the lease lasts.
            need: Bytes that it needs, where that is not what its plan says.

        Returns:
            The fence: the number that each later call under this lease must give.

        Raises:
            RequestError: No such megabatch.
            BudgetError: There is no room now, or never will be.
            BusyError: Another worker's lease lasts, or there is nothing to stage.
        """
        return self._do(
            lambda c: leases.claim_staging(
                c,
                megabatch,
                budget=budget,
                worker=worker,
                lease=lease,
                need=need,
                at=self._clock(),
            )
        )

    def renew(self, megabatch: str, fence: int, *, lease: float = LEASE) -> None:
        """Make a lease last `lease` seconds from now; `StaleFenceError` when it is lost."""
        self._do(lambda c: leases.renew(c, megabatch, fence, until=self._clock() + lease))

    def progressed(self, megabatch: str, fence: int, *, scenes: int, of: int, size: int) -> None:
        """Say, for people, how many scenes and bytes of a staging are on fast storage.

        `StaleFenceError` when the lease is lost. It is no change of state and leaves no history.
        """
        self._do(
            lambda c: progress.note(
                c, megabatch, fence, scenes=scenes, of=of, size=size, at=self._clock()
            )
        )

    def ready(self, megabatch: str, fence: int, *, size: int) -> State:
        """Record that all `size` bytes are durable on fast storage: staging → ready.

        Where a run waits for the plan it goes on to in_use at once. Gives the state it is in now.

        Raises:
            StaleFenceError: The lease is lost.
            LedgerError: There are more bytes than were reserved.
        """
        return self._do(lambda c: leases.ready(c, megabatch, fence, size=size, at=self._clock()))

    def give_up(self, megabatch: str, fence: int, *, reason: str) -> None:
        """Stop staging and release the bytes: staging → planned.

        The worker's files must be gone by then. `StaleFenceError` when the lease is lost.
        """
        self._do(lambda c: leases.give_up(c, megabatch, fence, reason=reason, at=self._clock()))

    def claim_removal(
        self,
        megabatch: str,
        *,
        worker: str,
        lease: float = LEASE,
        abandon: bool = False,
        why: str = "",
    ) -> int | None:
        """Put up the tombstone and take the lease to delete: complete → removing.

        Args:
            megabatch: Its id.
            worker: Who asks, for people.
            lease: Seconds.
            abandon: Also remove what is ready and nobody has begun to use. A run that begins later
                gets it in its next generation.
            why: A reason to record.

        Gives the fence, or None when it is removed already.

        Raises:
            BusyError: It is not complete, or another worker's lease lasts.
            RequestError: No such megabatch.
        """
        return self._do(
            lambda c: leases.claim_removal(
                c,
                megabatch,
                worker=worker,
                lease=lease,
                abandon=abandon,
                why=why,
                at=self._clock(),
            )
        )

    def removed(self, megabatch: str, fence: int) -> None:
        """Record that no file is left and release the bytes: removing → removed.

        `StaleFenceError` when the lease is lost.
        """
        self._do(lambda c: leases.removed(c, megabatch, fence, at=self._clock()))

    def plan_again(
        self, megabatch: str, *, run: str = "", who: str = "plan again", why: str = ""
    ) -> int:
        """Begin the next generation: removed → planned; gives its number.

        The run that goes back has to report it again, and what present attempts of the others have
        reported counts on; where no run is named, each has to report it again. `BusyError` when it
        is not removed, `RequestError` when no such run reads its plan.
        """
        return self._do(
            lambda c: leases.plan_again(c, megabatch, run=run, who=who, why=why, at=self._clock())
        )

    def free_lease(self, megabatch: str, *, who: str, why: str) -> None:
        """End the lease of a worker that is dead, before its time; alive, it is refused from now.

        The state stays: another worker goes on. `BusyError` when nobody has a lease.
        """
        self._do(lambda c: repairs.free_lease(c, megabatch, who=who, why=why, at=self._clock()))

    def claim_staging_to_end_it(self, megabatch: str, *, worker: str, lease: float = LEASE) -> int:
        """Take over a staging whose lease has ended, to `give_up`; gives the fence.

        `BusyError` when the lease lasts, or nothing is staged.
        """
        return self._do(
            lambda c: repairs.claim_staging_to_end_it(
                c, megabatch, worker=worker, lease=lease, at=self._clock()
            )
        )

    def claim_sweep(self, megabatch: str, *, worker: str, lease: float = LEASE) -> int:
        """Take the lease to clear the folder of a megabatch that should have none; gives the fence.

        It stays planned or removed. `BusyError` when it has files by right, or while another sweep
        lasts.
        """
        return self._do(
            lambda c: repairs.claim_sweep(
                c, megabatch, worker=worker, lease=lease, at=self._clock()
            )
        )

    def swept(self, megabatch: str, fence: int) -> None:
        """End a sweep; `StaleFenceError` when its lease is lost."""
        self._do(lambda c: repairs.swept(c, megabatch, fence))

    def take_lock(self, name: str, *, worker: str, lease: float = LEASE) -> int:
        """Take a lock for `lease` seconds; gives the fence. `BusyError` while another holds it."""
        at = self._clock()
        return self._do(lambda c: locks.take(c, name, worker=worker, until=at + lease, at=at))

    def hold_lock(self, name: str, fence: int, *, lease: float = LEASE) -> None:
        """Hold a lock for `lease` seconds from now; `StaleFenceError` when it is lost."""
        self._do(lambda c: locks.extend(c, name, fence, until=self._clock() + lease))

    def free_lock(self, name: str, fence: int) -> None:
        """Let a lock go; `StaleFenceError` when it was lost."""
        self._do(lambda c: locks.extend(c, name, fence, until=0.0))

    def begin_run(self, run: str, *, attempt: int, world: int, plan: str) -> list[str]:
        """Register an attempt of a run: the plan's megabatches now wait for its reports.

        All that is ready goes to in_use, what was removed and this run has never reported is
        planned again, and a run of the stage flow is asked for. The same attempt again changes
        nothing; a higher one replaces the one before, whose reports then count only for what is
        complete; a released run counts again. Gives the ids that went to in_use.

        Args:
            run: The team's name of the run.
            attempt: 1, and one more at each restart.
            world: How many ranks report.
            plan: Which plan it reads; a run may read several.

        Raises:
            RequestError: No such plan.
            BusyError: A later attempt has begun, or this one began with another world.
        """
        return self._do(
            lambda c: runs.begin_run(
                c, run, attempt=attempt, world=world, plan=plan, at=self._clock()
            )
        )

    def release_run(self, run: str, *, plan: str = "", actor: str = "command line") -> list[str]:
        """Stop waiting for a run, on one of its plans or on all: it has ended there, or is dead.

        Nothing leaves in_use by age, so a person says it. What no other run waits for becomes
        complete, and its cleanup is asked for; gives the ids. `RequestError` when unknown.
        """
        return self._do(
            lambda c: runs.release_run(c, run, plan=plan, actor=actor, at=self._clock())
        )

    def complete(self, message_id: str, body: bytes, *, message: MegabatchCompleted) -> Answer:
        """Take one rank's verified report; the last one moves in_use → complete.

        The report, its effect and the request for the cleanup flow are one transaction. Never
        raises for what a trainer did wrong: the answer says it.

        Args:
            message_id: The signed id, the idempotency key within its run.
            body: The signed bytes; `message` is the same, parsed.
            message: What is reported.

        Returns:
            200 `recorded` or `complete`; 404, 409 or 422 with the reason; 425 while it is staged.
        """
        return self._do(
            lambda c: runs.complete(c, message_id, body, message=message, at=self._clock())
        )

    def sent(self, number: int, flow_run: str) -> None:
        """Record that Prefect has accepted row `number` as this flow run."""
        self._do(lambda c: outbox.sent(c, number, flow_run=flow_run, at=self._clock()))

    def postpone(self, number: int, error: str, *, delay: float) -> None:
        """Record why row `number` was not accepted and try again after `delay` seconds."""
        self._do(lambda c: outbox.postpone(c, number, error=error, next_try=self._clock() + delay))

    def send_now(self, number: int, *, actor: str = "command line") -> str:
        """Let the sender try row `number` of the outbox at once; gives what it asks for.

        `RequestError` when no such row waits.
        """
        return self._do(lambda c: actions.send_now(c, number, actor=actor, at=self._clock()))

    def ask_again(self, megabatch: str, *, actor: str = "command line") -> str:
        """Ask for another run of the flow that brings a megabatch on; gives the flow's name.

        Raises:
            RequestError: No such megabatch.
            BusyError: It is ready or in use: no flow has anything to do.
        """
        return self._do(lambda c: actions.ask_again(c, megabatch, actor=actor, at=self._clock()))
