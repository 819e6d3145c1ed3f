"""prefetch: what a plan wants on fast storage next, staged as far as the budget goes."""

import logging
from pathlib import Path

from chipmill.errors import BudgetError, BusyError
from chipmill.formats.plan import Plan
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.manner import DEFAULT, Manner
from chipmill.model.megabatch import State
from chipmill.steps.plan import load_plan
from chipmill.steps.stage import Staged, stage_megabatch

log = logging.getLogger(__name__)

_ON_FAST_STORAGE = (State.STAGING, State.READY, State.IN_USE)


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
    plan: str,
    *,
    archive: Store,
    fast: Path,
    ledger: Ledger,
    budget: int,
    worker: str,
    ahead: int = 1,
    manner: Manner = DEFAULT,
) -> list[Staged]:
    """Stage what is wanted of a plan, as far as the budget goes."""
    planned = load_plan(archive, plan)
    register(planned, ledger, budget=budget)
    staged: list[Staged] = []
    while name := next_to_stage(plan, ledger, ahead=ahead):
        number = ledger.megabatch(name).number
        try:
            done = stage_megabatch(
                planned,
                number,
                archive=archive,
                fast=fast,
                ledger=ledger,
                budget=budget,
                worker=worker,
                manner=manner,
            )
        except (BudgetError, BusyError) as err:
            # No room now, or another flow run was quicker: either comes back to it.
            log.info("%s is not staged now: %s", name, err)
            break
        staged.append(done)
    return staged


def next_to_stage(plan: str, ledger: Ledger, *, ahead: int) -> str | None:
    """Name the megabatch that is wanted next; None while enough are staged.

    One whose worker has died comes first: its lease has ended and its bytes are reserved.

    Args:
        plan: Its name.
        ledger: The truth about its megabatches.
        ahead: How many are kept ready beyond the one in use.
    """
    rows, now = ledger.megabatches(plan), ledger.now()
    dropped = [row for row in rows if row.state is State.STAGING and row.lease_until <= now]
    held = [row for row in rows if row.state in _ON_FAST_STORAGE and row not in dropped]
    wanted = dropped or [row for row in rows if row.state is State.PLANNED]
    return wanted[0].id if wanted and len(held) <= ahead else None
