"""A place with an archive of small scenes, fast storage and a ledger, and what happens there."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chipmill.formats import layout
from chipmill.formats.plan import Plan
from chipmill.formats.webhook import MegabatchCompleted, MegabatchCompletedData
from chipmill.io.ledger import LEASE, Ledger
from chipmill.io.store import Store
from chipmill.model.megabatch import State, megabatch_id
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import ALL, register, stage_ahead
from chipmill.steps.reconcile import Mended, reconcile
from chipmill.steps.remove import Removed, remove_megabatch

CHIP = 64
BUDGET = 10**9


@dataclass(frozen=True)
class Site:
    """Where megabatches come and go."""

    archive: Store
    fast: Path
    url: str
    """Of the ledger."""
    ledger: Ledger

    def plan(
        self, *, epoch: int = 0, minibatch: int = 2, megabatch: int = 2, budget: int = BUDGET
    ) -> Plan:
        """Plan an epoch of all scenes and register it."""
        request = PlanRequest(
            minibatch=minibatch,
            megabatch=megabatch,
            chip_size=CHIP,
            few_scenes=True,
            epoch=epoch,
        )
        planned = make_plan(request, self.archive)
        register(planned, self.ledger, budget=budget)
        return planned

    def begin(self, plan: Plan, *, run: str = "run") -> None:
        """Begin a run of one rank on a plan."""
        self.ledger.begin_run(run, attempt=1, world=1, plan=plan.plan)

    def stage(
        self, plan: str = ALL, *, budget: int = BUDGET, ahead: int = 1, ledger: Ledger | None = None
    ) -> list[str]:
        """Stage what is wanted; gives the names."""
        staged = stage_ahead(
            plan,
            archive=self.archive,
            fast=self.fast,
            ledger=ledger or self.ledger,
            budget=budget,
            worker="stager",
            ahead=ahead,
        )
        return [done.megabatch for done in staged]

    def report(self, megabatch: str, *, run: str = "run") -> None:
        """Report a megabatch as a run of one rank does."""
        data = MegabatchCompletedData(
            megabatch=megabatch,
            run=run,
            attempt=1,
            rank=0,
            world=1,
            epoch=0,
            minibatches=1,
        )
        message = MegabatchCompleted(timestamp=datetime.now(UTC), data=data)
        body = message.model_dump_json().encode()
        until = time.monotonic() + 300
        while (answer := self.ledger.complete(f"{run}-{megabatch}", body, message=message)) and (
            answer.status == 425 and time.monotonic() < until
        ):
            time.sleep(0.05)
        assert answer.status == 200, answer

    def remove(self, megabatch: str, *, archive: Store | None = None) -> Removed:
        """Remove a megabatch."""
        return remove_megabatch(
            megabatch,
            archive=archive or self.archive,
            fast=self.fast,
            ledger=self.ledger,
            worker="cleaner",
        )

    def reconcile(self, ledger: Ledger | None = None) -> list[Mended]:
        """Mend what is left over."""
        return reconcile(
            archive=self.archive,
            fast=self.fast,
            ledger=ledger or self.ledger,
            worker="reconciler",
        )

    def later(self) -> Ledger:
        """Open the ledger as it is seen when all leases of now have ended."""
        return Ledger.open(self.url, clock=lambda: time.time() + LEASE + 1)

    def state(self, plan: Plan, number: int = 0) -> State:
        """Read a state."""
        return self.ledger.megabatch(megabatch_id(plan.plan, number)).state

    def folder(self, plan: Plan, number: int = 0) -> Path:
        """Name the folder of a megabatch."""
        return self.fast / layout.megabatch_folder(plan.plan, number)

    def on_disk(self) -> int:
        """Add up the bytes that lie on fast storage."""
        return sum(path.stat().st_size for path in self.fast.rglob("*") if path.is_file())
