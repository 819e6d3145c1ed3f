"""A stager and a cleaner at work until standard input ends, for `test_hundred_megabatches.py`.

Arguments: the archive, fast storage, the ledger, the budget, how many to keep ahead.
"""

import os
import random
import sys
import time
import traceback
from pathlib import Path

from chipmill.errors import BusyError
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.megabatch import State
from chipmill.steps.prefetch import ALL, stage_ahead
from chipmill.steps.remove import remove_megabatch


def stage(archive: Store, fast: Path, ledger: Ledger, budget: int, ahead: int) -> None:
    """Stage what is wanted, and complain of a look that staged nothing though there was room.

    Nobody else takes room here, so what is there before the look is there during it.
    """
    waiting = fitting(ledger, budget)
    staged = stage_ahead(
        archive=archive, fast=fast, ledger=ledger, budget=budget, worker="stager", ahead=ahead
    )
    if waiting and not staged:
        print(f"Error: idle while there is room for {waiting}", file=sys.stderr, flush=True)  # noqa: T201


def fitting(ledger: Ledger, budget: int) -> list[str]:
    """Name the megabatch that each plan of a run wants next, if there is room for any of them."""
    served = ledger.plans_to_serve(ALL)
    rows = [ledger.megabatches(plan.id) for plan in served]
    planned = [[row for row in each if row.state is State.PLANNED] for each in rows]
    wanted = [each[0] for each in planned if each]
    room = budget - ledger.reserved()
    return [row.id for row in wanted] if all(row.bytes <= room for row in wanted) else []


def clean(archive: Store, fast: Path, ledger: Ledger, _budget: int, _ahead: int) -> None:
    """Remove what is complete, in any order."""
    rows = [row for row in ledger.megabatches() if row.state is State.COMPLETE]
    random.Random(len(rows)).shuffle(rows)  # noqa: S311  an order, not a secret
    for row in rows:
        try:
            remove_megabatch(row.id, archive=archive, fast=fast, ledger=ledger, worker="cleaner")
        except BusyError:
            traceback.print_exc()


def main(archive: str, fast: str, ledger: str, budget: str, ahead: str) -> None:
    """Fork both, and end with them."""
    pids: list[int] = []
    parent = os.getpid()
    for work in (stage, clean):
        pids.append(os.fork())
        if pids[-1] == 0:
            with Ledger.open(ledger) as opened:
                while os.getppid() == parent:
                    work(Store.open(archive), Path(fast), opened, int(budget), int(ahead))
                    time.sleep(0.01)
            os._exit(0)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
