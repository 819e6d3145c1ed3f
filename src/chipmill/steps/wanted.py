"""wanted: which megabatch of a plan is staged next, by what each run has still to read."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chipmill.io.ledger import Ledger
from chipmill.io.ledger_rows import MegabatchRow, PlanRow, UnreadRow
from chipmill.model.megabatch import State

log = logging.getLogger(__name__)

_ON_FAST_STORAGE = (State.STAGING, State.READY, State.IN_USE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one plan wants next."""

    lead: int
    """How many megabatches the run that wants it has before it; 0: the run stands still."""
    served: float
    """When the plan was last given space."""
    plan: str
    row: MegabatchRow

    @property
    def turn(self) -> tuple[int, float, str]:
        """Who comes first: who has least, and of those the one served longest ago."""
        return self.lead, self.served, self.plan


@dataclass(frozen=True, slots=True)
class _Reader:
    """A run, and what it has still to read."""

    run: str
    unread: tuple[int, ...]
    """Numbers of megabatches, in order."""
    window: tuple[int, ...]
    """Those that are to be on fast storage for it."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """A plan at one moment."""

    rows: Mapping[int, MegabatchRow]
    held: Sequence[MegabatchRow]
    """On fast storage or on their way, by number."""
    readers: Sequence[_Reader]
    """Who has something to read, the one that is furthest behind first."""
    ahead: int

    def lead(self, number: int) -> int:
        """Count what lies before a megabatch for the run that needs it most."""
        held = {row.number for row in self.held}
        leads = [
            len(held.intersection(reader.unread[: reader.unread.index(number)]))
            for reader in self.readers
            if number in reader.window
        ]
        return min(leads, default=0)

    def may_have(self, number: int, *, free: int) -> bool:
        """Tell whether the plan may hold one more, of this number.

        Always the one that a run behind all others stands still without; else one for each run and
        `ahead` besides. More only where as many runs again would find room: first for the window of
        the run that is furthest behind, and for the others where that is kept free besides.
        """
        runs = len(self.readers)
        if len(self.held) < runs + self.ahead or number < self.held[0].number:
            return True
        spare = runs if number in self.readers[0].window else runs + self.ahead
        largest = max(row.bytes for row in self.rows.values())
        return free >= self.rows[number].bytes + spare * largest

    def kept_from(self, number: int) -> tuple[int, list[int], list[str]]:
        """Find what can never make room for a megabatch, since it is read after it.

        Gives the bytes, the numbers and the runs.
        """
        waiting = [reader for reader in self.readers if number in reader.unread]
        later = {n for reader in waiting for n in reader.unread if n > number}
        kept = [row for row in self.held if row.number in later]
        runs = [reader.run for reader in waiting]
        return sum(row.reserved for row in kept), [row.number for row in kept], runs


def wish(plan: PlanRow, ledger: Ledger, *, budget: int, ahead: int) -> Wish | None:
    """Find what a plan wants next; None where it has enough, or may not have more.

    Each run has a window: the first `ahead` + 1 megabatches that it has not reported. The lowest
    number that is missing in any window is next; one whose worker has died comes before it, since
    its bytes are reserved.
    """
    unread, rows, now = ledger.unread(plan.id), ledger.megabatches(plan.id), ledger.now()
    dropped = [row for row in rows if row.state is State.STAGING and row.lease_until <= now]
    held = [row for row in rows if row.state in _ON_FAST_STORAGE and row not in dropped]
    numbered = {row.number: row for row in rows}
    scene = _Scene(numbered, held, _readers(unread, ahead), ahead)
    if dropped:
        return _wish(plan, scene, dropped[0])
    windows = {number for reader in scene.readers for number in reader.window}
    wanted = [row for row in rows if row.state is State.PLANNED and row.number in windows]
    if not wanted or not _can(wanted[0], scene, budget=budget):
        return None
    if not scene.may_have(wanted[0].number, free=budget - ledger.reserved()):
        behind = scene.readers[0].run
        log.info("%s waits until run %s has come nearer to it", wanted[0].id, behind)
        return None
    return _wish(plan, scene, wanted[0])


def _wish(plan: PlanRow, scene: _Scene, row: MegabatchRow) -> Wish:
    return Wish(lead=scene.lead(row.number), served=plan.served, plan=plan.id, row=row)


def _can(row: MegabatchRow, scene: _Scene, *, budget: int) -> bool:
    """Tell whether there can ever be room for a megabatch; say so where there cannot."""
    if row.bytes > budget:
        log.warning("%s needs more than the whole budget and is passed over", row.id)
        return False
    kept, numbers, runs = scene.kept_from(row.number)
    if kept + row.bytes <= budget:
        return True
    log.warning(
        "%s needs %d bytes and can never be staged: of the budget of %d bytes, %d are taken by "
        "megabatches %s, which run %s reads after it; raise CHIPMILL_BUDGET, or release the run "
        "and begin another attempt of it",
        row.id,
        row.bytes,
        budget,
        kept,
        ", ".join(map(str, numbers)),
        ", ".join(runs),
    )
    return False


def _readers(unread: Sequence[UnreadRow], ahead: int) -> list[_Reader]:
    """Put together what each run has still to read, the run that is furthest behind first."""
    runs: dict[str, list[UnreadRow]] = {}
    for row in unread:
        runs.setdefault(row.run, []).append(row)
    readers = [
        _Reader(run, tuple(row.number for row in mine), tuple(_window(mine, ahead)))
        for run, mine in runs.items()
    ]
    return sorted(readers, key=lambda reader: reader.unread)


def _window(unread: Sequence[UnreadRow], ahead: int) -> list[int]:
    """Take the first ahead + 1; what a run has had and is asked for again does not count."""
    window: list[int] = []
    room = ahead + 1
    for row in unread:
        room -= not row.again
        if room < 0:
            break
        window.append(row.number)
    return window
