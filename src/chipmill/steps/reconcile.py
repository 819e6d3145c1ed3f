"""reconcile: mend what a crash or a lost message left; what it does not know it leaves alone."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chipmill.errors import ChipmillError
from chipmill.formats import layout
from chipmill.io.fast import Folder
from chipmill.io.fast_survey import Survey, remove_empty, survey, temporaries
from chipmill.io.ledger import Ledger
from chipmill.io.ledger_rows import MegabatchRow
from chipmill.io.store import Store
from chipmill.model.megabatch import State, megabatch_id
from chipmill.steps.lease import kept
from chipmill.steps.remove import remove_megabatch
from chipmill.steps.repair import give_up

log = logging.getLogger(__name__)

LATE: Final = 300.0
"""Seconds after which a request for a flow run counts as long unsent."""
_WHY: Final = "reconcile"
_NO_FILES: Final = (State.PLANNED, State.REMOVED)
_WHOLE: Final = (State.READY, State.IN_USE, State.COMPLETE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """One thing that was found."""

    what: str
    """What was done: `removed`, `abandoned`, `given up`, `swept`. Or what is only said: `refused`,
    `unknown`, `lost`, `idle`, `unsent`."""
    subject: str
    """A megabatch, a path below the root of fast storage, or a row of the outbox."""
    note: str


@dataclass(frozen=True, slots=True)
class _Site:
    archive: Store
    fast: Path
    ledger: Ledger
    worker: str
    fsx: str | None

    def tried(self, what: str, subject: str, work: Callable[[], str]) -> Mended:
        """Do one thing; what refuses it is said, and the others go on."""
        try:
            return Mended(what=what, subject=subject, note=work())
        except ChipmillError as err:
            return Mended(what="refused", subject=subject, note=str(err))

    def folder(self, plan: str, number: int) -> Folder:
        """Name the folder of a megabatch."""
        return Folder.of(self.fast, plan=plan, number=number, fsx=self.fsx)


def reconcile(
    *, archive: Store, fast: Path, ledger: Ledger, worker: str, fsx: str | None = None
) -> list[Mended]:
    """Mend what is left over; run again, it finds nothing more to do.

    Megabatches that are complete are removed, and so are those that are ready for a plan whose runs
    were all released. A staging whose worker died is given up where no run reads its plan; where
    one does, `stage_ahead` goes on with it. Files of megabatches that have none are swept, and so
    are half-written files beside whole ones. All else is only said.
    """
    site = _Site(archive, fast, ledger, worker, fsx)
    found = [*_remove(site), *_end_stagings(site), *_sweep(site, survey(fast)), *_look(site)]
    for each in found:
        log.info("%s %s: %s", each.what, each.subject, each.note)
    return found


def _remove(site: _Site) -> Iterator[Mended]:
    now = site.ledger.now()
    read, known = _plans_read(site), {run.plan for run in site.ledger.runs()}
    for row in site.ledger.megabatches():
        dropped = row.state is State.REMOVING and row.lease_until <= now
        over = row.state is State.READY and row.plan in known - read
        if row.state is State.COMPLETE or dropped or over:
            yield site.tried(
                "abandoned" if over else "removed",
                row.id,
                lambda row=row, over=over: _removed(site, row, abandon=over),
            )


def _removed(site: _Site, row: MegabatchRow, *, abandon: bool) -> str:
    done = remove_megabatch(
        row.id,
        archive=site.archive,
        fast=site.fast,
        ledger=site.ledger,
        worker=site.worker,
        abandon=abandon,
        why=_WHY,
        fsx=site.fsx,
    )
    return f"{done.freed / 1e6:,.1f} MB freed"


def _end_stagings(site: _Site) -> Iterator[Mended]:
    read, now = _plans_read(site), site.ledger.now()
    for row in site.ledger.megabatches():
        if row.state is State.STAGING and row.lease_until <= now and row.plan not in read:
            yield site.tried("given up", row.id, lambda row=row: _given_up(site, row))


def _given_up(site: _Site, row: MegabatchRow) -> str:
    why = f"{row.worker} is gone, and no run reads the plan"
    freed = give_up(
        row.id, fast=site.fast, ledger=site.ledger, who=site.worker, why=why, fsx=site.fsx
    )
    return f"{why}; {freed / 1e6:,.1f} MB freed"


def _plans_read(site: _Site) -> set[str]:
    return {run.plan for run in site.ledger.runs() if run.released is None}


def _sweep(site: _Site, seen: Survey) -> Iterator[Mended]:
    rows = {(row.plan, row.number): row for row in site.ledger.megabatches()}
    for name in seen.unknown:
        yield Mended(what="unknown", subject=name, note="not chipmill's; it is left alone")
    for plan, number in seen.megabatches:
        row = rows.get((plan, number))
        if row is None:
            note = "the ledger knows no such megabatch; it is left alone"
            yield Mended(what="unknown", subject=layout.megabatch_folder(plan, number), note=note)
        elif row.state in _NO_FILES and row.lease_until <= site.ledger.now():
            yield site.tried("swept", row.id, lambda row=row: _swept(site, row))
        elif row.state in _WHOLE:
            yield from _half_written(site, row)
    planned = {plan for (plan, _), row in rows.items() if row.state is not State.REMOVED}
    for plan in {plan for plan, _ in rows} & set(seen.plans) - planned:
        remove_empty(site.fast / plan)


def _swept(site: _Site, row: MegabatchRow) -> str:
    """Remove files under a lease, so that nobody stages the megabatch at that moment."""
    fence = site.ledger.claim_sweep(row.id, worker=site.worker)
    with kept(site.ledger, row.id, fence) as lease:
        freed = site.folder(row.plan, row.number).remove(check=lease.check)
    site.ledger.swept(row.id, fence)
    return f"it is {row.state}, yet {freed / 1e6:,.1f} MB were there"


def _half_written(site: _Site, row: MegabatchRow) -> Iterator[Mended]:
    """Remove what workers left that lost their lease; none of a later lease is touched."""
    for left in temporaries(site.folder(row.plan, row.number).path, before=row.fence):
        left.unlink(missing_ok=True)
        yield Mended(what="swept", subject=row.id, note=f"{left.name} was left half written")


def _look(site: _Site) -> Iterator[Mended]:
    known = {run.plan for run in site.ledger.runs()}
    for row in site.ledger.megabatches():
        path = site.folder(row.plan, row.number).path / layout.MANIFEST
        if row.state in _WHOLE[:2] and not path.is_file() and _still(site, row):
            note = (
                f"it is {row.state}, but {path} is gone; release its runs, abandon it, and plan it "
                "again"
            )
            yield Mended(what="lost", subject=row.id, note=note)
        elif row.state is State.READY and row.plan not in known:
            note = f"{row.reserved / 1e6:,.1f} MB are ready, and no run has begun to read the plan"
            yield Mended(what="idle", subject=row.id, note=note)
    seen = site.ledger.overview()
    for each in seen.requests:
        if each.sent_at is None and each.created <= seen.at - LATE:
            note = f"{each.kind} of {each.subject} was tried {each.attempts} times: {each.error}"
            yield Mended(what="unsent", subject=f"outbox {each.id}", note=note)


def _still(site: _Site, row: MegabatchRow) -> bool:
    """See that it was not removed between the two looks."""
    return site.ledger.megabatch(megabatch_id(row.plan, row.number)).version == row.version
