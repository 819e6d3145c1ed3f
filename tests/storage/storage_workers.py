"""A stager and a cleaner at work until standard input ends, for `test_hundred_megabatches.py`.

Arguments: the archive, fast storage, the ledger, the budget.
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
from chipmill.steps.prefetch import stage_ahead
from chipmill.steps.remove import remove_megabatch

AHEAD = 9
"""More than the budget has room for: it alone is the limit."""


def stage(archive: Store, fast: Path, ledger: Ledger, budget: int) -> None:
    """Stage what is wanted."""
    stage_ahead(
        archive=archive, fast=fast, ledger=ledger, budget=budget, worker="stager", ahead=AHEAD
    )


def clean(archive: Store, fast: Path, ledger: Ledger, _budget: int) -> None:
    """Remove what is complete, in any order."""
    rows = [row for row in ledger.megabatches() if row.state is State.COMPLETE]
    random.Random(len(rows)).shuffle(rows)  # noqa: S311  an order, not a secret
    for row in rows:
        try:
            remove_megabatch(row.id, archive=archive, fast=fast, ledger=ledger, worker="cleaner")
        except BusyError:
            traceback.print_exc()


def main(archive: str, fast: str, ledger: str, budget: str) -> None:
    """Fork both, and end with them."""
    pids: list[int] = []
    parent = os.getpid()
    for work in (stage, clean):
        pids.append(os.fork())
        if pids[-1] == 0:
            with Ledger.open(ledger) as opened:
                while os.getppid() == parent:
                    work(Store.open(archive), Path(fast), opened, int(budget))
                    time.sleep(0.01)
            os._exit(0)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
