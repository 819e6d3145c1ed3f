"""prefetch: the megabatches that are wanted next, staged fairly as far as the budget goes."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from chipmill.errors import BudgetError, BusyError, ChipmillError, TransientError
from chipmill.formats.plan import Plan
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_rows import MegabatchRow
from chipmill.io.store import Store
from chipmill.model.manner import DEFAULT, Manner
from chipmill.steps.cut import Workbench, workbench
from chipmill.steps.plan import load_plan
from chipmill.steps.stage import Staged, stage_megabatch
from chipmill.steps.wanted import wish

log = logging.getLogger(__name__)

ALL = "all"
"""Instead of a plan's name: only the plans that runs read."""
_MOST_RACES = 16
"""How often another worker may be quicker before this one leaves the work to it."""


@dataclass(slots=True)
class _Place:
    """Where megabatches are staged from and to, and what went wrong there."""

    archive: Store
    fast: Path
    ledger: Ledger
    budget: int
    worker: str
    manner: Manner
    bench: Workbench
    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])
    failed: dict[str, ChipmillError] = field(default_factory=dict[str, ChipmillError])
    races: int = 0
    over: bool = False
    """Whether there is nothing more to do here, though not all that is wanted is staged."""

    def take(self, row: MegabatchRow) -> list[Staged]:
        """Stage one megabatch, or note why it is not staged; gives it, or nothing."""
        try:
            return [self._stage(row)]
        except BudgetError as err:
            log.info("%s waits for space, and those behind it wait too: %s", row.id, err)
            self.over = True
        except BusyError as err:
            log.info("%s is not staged here: %s", row.id, err)
            self.races += 1
            self.over = self.races == _MOST_RACES
        except TransientError:
            raise  # of fast storage or of the archive: the next plan would meet it too
        except ChipmillError as err:
            log.warning("%s cannot be staged: %s", row.id, err)
            self.failed[row.plan] = err
        return []

    def _stage(self, row: MegabatchRow) -> Staged:
        if row.plan not in self.plans:
            self.plans[row.plan] = load_plan(self.archive, row.plan)
        return stage_megabatch(
            self.plans[row.plan],
            row.number,
            archive=self.archive,
            fast=self.fast,
            ledger=self.ledger,
            budget=self.budget,
            worker=self.worker,
            manner=self.manner,
            bench=self.bench,
        )


def register(plan: Plan, ledger: Ledger, *, budget: int) -> None:
    """Record a plan's megabatches in the ledger.

    Raises:
        BudgetError: The largest of them can never fit into the budget.
    """
    largest = max(planned.size for planned in plan.megabatches)
    if largest > budget:
        raise BudgetError(
            f"the largest megabatch of plan {plan.plan} needs {largest:,} bytes, the budget of "
            f"fast storage is {budget:,}; raise the budget or plan megabatches of fewer than "
            f"{plan.megabatch_scenes} scenes"
        )
    needs = [planned.size for planned in plan.megabatches]
    ledger.register_plan(plan.plan, plan.model_dump_json(), needs=needs)


def stage_ahead(
    plan: str = ALL,
    *,
    archive: Store,
    fast: Path,
    ledger: Ledger,
    budget: int,
    worker: str,
    ahead: int = 1,
    manner: Manner = DEFAULT,
) -> list[Staged]:
    """Stage what is wanted by all plans that runs read, and by `plan`, as far as the budget goes.

    The plans share fast storage in turns; see `next_to_stage`. A megabatch that cannot be staged
    does not hold up those of other plans.

    Raises:
        ChipmillError: What kept the first plan from its turn, when all others have had theirs.
        TransientError: Fast storage is full, or the archive does not answer.
    """
    staged: list[Staged] = []
    with workbench() as bench:
        place = _Place(archive, fast, ledger, budget, worker, manner, bench)
        if plan != ALL:
            place.plans[plan] = load_plan(archive, plan)
            register(place.plans[plan], ledger, budget=budget)
        while not place.over:
            row = next_to_stage(
                ledger, budget=budget, ahead=ahead, named=plan, without=place.failed.keys()
            )
            if row is None:
                break
            staged += place.take(row)
    for err in place.failed.values():
        raise err
    return staged


def next_to_stage(
    ledger: Ledger,
    *,
    budget: int,
    ahead: int,
    named: str = ALL,
    without: Iterable[str] = (),
) -> MegabatchRow | None:
    """Find the megabatch whose turn it is; None while every plan has enough.

    The turn is that of the plan with the run that has the fewest megabatches before it on fast
    storage, and of several the one that was given space longest ago. Nobody overtakes: where the
    next one does not fit, it waits for space, and so do those behind it. So a plan of large
    megabatches gets its turn beside plans of small ones, and each plan that has none waits for as
    many grants as there are such plans at most. What a plan wants next says `wanted`.

    Args:
        ledger: The truth about all megabatches.
        budget: Bytes of fast storage; what can never fit has no turn.
        ahead: How many are kept ready for a run beyond the one that it reads.
        named: A plan that has a turn although no run reads it yet.
        without: Plans that have no turn.
    """
    left_out = set(without)
    plans = [plan for plan in ledger.plans_to_serve(named) if plan.id not in left_out]
    wishes = [found for plan in plans if (found := wish(plan, ledger, budget=budget, ahead=ahead))]
    return min(wishes, key=lambda found: found.turn).row if wishes else None
