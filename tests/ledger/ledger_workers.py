"""Workers on one ledger, killed and replaced at random moments; `test_ledger_kills.py` runs it.

Arguments: the ledger's URL, a folder, a seed and how often to kill. Each worker writes what the
ledger has acknowledged to a file of its own in the folder and syncs it, line by line.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from chipmill.errors import BudgetError, BusyError, StaleFenceError, TransientError
from chipmill.formats.webhook import MegabatchCompleted
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_rows import MegabatchRow
from chipmill.model.megabatch import State

WORKERS = 4
BUDGET = 45
LEASE = 0.1
RUN, WORLD = "run", 2


class Worker:
    """Does whatever may be next for some megabatch, as stager, rank, cleaner or planner."""

    def __init__(self, ledger: Ledger, *, name: str, log: int) -> None:
        """Begin without a lease."""
        self.ledger = ledger
        self.name = name
        self.log = log
        self.chance = random.Random(name)  # noqa: S311  a seed, not a secret
        self.leases: dict[str, tuple[int, str]] = {}
        self.count = 0

    def act(self) -> None:
        """Take one step; to be refused or to find the database down is part of the life."""
        try:
            row = self.chance.choice(self.ledger.megabatches())
            steps = {
                State.PLANNED: self.claim,
                State.STAGING: self.stage,
                State.READY: self.begin,
                State.IN_USE: self.report,
                State.COMPLETE: self.clean,
                State.REMOVING: self.remove,
                State.REMOVED: self.again,
            }
            steps[row.state](row)
        except (BudgetError, BusyError, StaleFenceError, TransientError):
            time.sleep(0.005)

    def claim(self, row: MegabatchRow) -> None:
        """Ask for the lease to stage."""
        actor = self.actor()
        fence = self.ledger.claim_staging(row.id, budget=BUDGET, worker=actor, lease=LEASE)
        self.leases[row.id] = (fence, actor)
        self.acknowledged(row.id, State.STAGING, actor=actor)

    def stage(self, row: MegabatchRow) -> None:
        """End the staging under the own lease, which may be lost; without one try to take over."""
        if row.id not in self.leases:
            self.claim(row)
            return
        fence, actor = self.leases[row.id]
        self.dally(row, fence)
        if self.chance.random() < 0.2:
            self.leases.pop(row.id)
            self.ledger.give_up(row.id, fence, reason="chance")
            self.acknowledged(row.id, State.PLANNED, actor=actor)
            return
        self.leases.pop(row.id)
        self.ledger.ready(row.id, fence, size=row.bytes)
        self.acknowledged(row.id, State.READY, actor=actor)

    def begin(self, row: MegabatchRow) -> None:
        """Begin the run, for the first time or once more."""
        known = [run.attempt for run in self.ledger.runs(row.plan)]
        self.ledger.begin_run(RUN, attempt=max(known, default=1), world=WORLD, plan=row.plan)

    def report(self, row: MegabatchRow) -> None:
        """Deliver a rank's completion, now and then that of a new attempt."""
        attempt = self.ledger.runs(row.plan)[0].attempt
        if self.chance.random() < 0.05:
            attempt += 1
            self.ledger.begin_run(RUN, attempt=attempt, world=WORLD, plan=row.plan)
        rank = self.chance.randrange(WORLD)
        data = {"megabatch": row.id, "run": RUN, "attempt": attempt, "rank": rank, "world": WORLD}
        message = MegabatchCompleted.model_validate(
            {
                "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
                "data": data | {"epoch": row.generation, "minibatches": 1},
            }
        )
        key = f"{row.id}-{row.generation}-{attempt}-{rank}"
        answer = self.ledger.complete(key, message.model_dump_json().encode(), message=message)
        if answer.note == "complete":
            self.acknowledged(row.id, State.COMPLETE, generation=row.generation)
        elif answer.note == "recorded":
            self.write({"generation": row.generation, **data})

    def clean(self, row: MegabatchRow) -> None:
        """Ask for the lease to remove."""
        actor = self.actor()
        fence = self.ledger.claim_removal(row.id, worker=actor, lease=LEASE)
        if fence is not None:
            self.leases[row.id] = (fence, actor)
            self.acknowledged(row.id, State.REMOVING, actor=actor)

    def remove(self, row: MegabatchRow) -> None:
        """End the removal under the own lease, or try to take over."""
        if row.id not in self.leases:
            self.clean(row)
            return
        fence, actor = self.leases[row.id]
        self.dally(row, fence)
        self.leases.pop(row.id)
        self.ledger.removed(row.id, fence)
        self.acknowledged(row.id, State.REMOVED, actor=actor)

    def again(self, row: MegabatchRow) -> None:
        """Plan the next generation."""
        generation = self.ledger.plan_again(row.id)
        self.acknowledged(row.id, State.PLANNED, generation=generation)

    def dally(self, row: MegabatchRow, fence: int) -> None:
        """Renew the lease, or now and then work for longer than it lasts."""
        if self.chance.random() < 0.05:
            time.sleep(1.5 * LEASE)
        else:
            self.ledger.renew(row.id, fence, lease=LEASE)

    def actor(self) -> str:
        """Make a name that no other lease has."""
        self.count += 1
        return f"{self.name}-{self.count}"

    def acknowledged(
        self, megabatch: str, now: State, *, actor: str = "", generation: int = 0
    ) -> None:
        """Write down a change of state that the ledger has confirmed."""
        change = {"megabatch": megabatch, "now": now, "actor": actor, "generation": generation}
        self.write(change)

    def write(self, line: Mapping[str, object]) -> None:
        """Write a line that outlives the process."""
        os.write(self.log, json.dumps(line).encode() + b"\n")
        os.fsync(self.log)


def live(url: str, folder: Path, name: str) -> None:
    """Work until killed, or until the parent is gone."""
    parent = os.getppid()
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    ledger = None
    while ledger is None and os.getppid() == parent:
        try:
            ledger = Ledger.open(url)
        except TransientError:
            time.sleep(0.05)
    if ledger is not None:
        worker = Worker(ledger, name=name, log=log)
        while os.getppid() == parent:
            worker.act()


def start(url: str, folder: Path, name: str) -> int:
    """Start a worker; give its process id. It is never more than killed: it ends by a mistake."""
    pid = os.fork()
    if pid:
        return pid
    try:
        live(url, folder, name)
    except BaseException:  # noqa: BLE001  whatever it is, the parent has to hear of it
        traceback.print_exc()
    os._exit(1)


def wait_for_a_line(folder: Path) -> None:
    """Wait until something more is acknowledged: on a busy machine that takes a while."""
    seen, end = logged(folder), time.monotonic() + 60
    while logged(folder) == seen and time.monotonic() < end:
        time.sleep(0.005)


def logged(folder: Path) -> int:
    """Count the bytes that workers have written down."""
    return sum(log.stat().st_size for log in folder.glob("*.log"))


def main() -> None:
    """Keep the workers many and mortal; exit with 1 when one ended by itself."""
    url, folder, seed, kills = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    chance = random.Random(seed)  # noqa: S311  a seed, not a secret
    Ledger.open(url).close()  # loads the driver: those that are forked now begin at once
    pids = [start(url, folder, f"w{seed}.{number}") for number in range(WORKERS)]
    try:
        for number in range(WORKERS, WORKERS + kills):
            wait_for_a_line(folder)
            time.sleep(chance.uniform(0, 0.25))
            victim = pids.pop(chance.randrange(WORKERS))
            os.kill(victim, signal.SIGKILL)
            _, status = os.waitpid(victim, 0)
            if not os.WIFSIGNALED(status):
                sys.exit(1)
            pids.append(start(url, folder, f"w{seed}.{number}"))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
