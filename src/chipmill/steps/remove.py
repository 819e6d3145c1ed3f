"""remove: free the space of a megabatch that every consumer has reported."""

import logging
from dataclasses import dataclass
from pathlib import Path

from chipmill.io.fast import Folder
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.megabatch import State, parse_megabatch_id
from chipmill.steps.lease import kept
from chipmill.steps.sources import check_sources

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What removing one megabatch did."""

    megabatch: str
    plan: str
    freed: int
    """Bytes; 0 when it was removed already."""


def remove_megabatch(
    megabatch: str,
    *,
    archive: Store | None,
    fast: Path,
    ledger: Ledger,
    worker: str,
    abandon: bool = False,
    why: str = "",
    fsx: str | None = None,
) -> Removed:
    """Remove a completed megabatch; safe to run twice and after a crash.

    The ledger's tombstone comes before the first file is deleted, and the bytes of the budget come
    back after the last. The lease is renewed meanwhile; a run that was interrupted is taken over,
    and goes on with the files that are left.

    Args:
        megabatch: Its id.
        archive: Must have all that staging it again would read; None: whatever it has.
        fast: Root of fast storage.
        ledger: The truth about it.
        worker: Who asks, for people.
        abandon: Also remove what is ready and nobody has begun to use.
        why: What the history says of it.
        fsx: Id of the FSx for Lustre file system that fast storage lies on, if it does.

    Raises:
        BusyError: It is not complete, or somebody else removes it.
        MissingError: The archive lacks a file of it; nothing is removed.
        RequestError: There is no such megabatch.
        StaleFenceError: The lease was lost; somebody else has taken over.
    """
    plan, number = parse_megabatch_id(megabatch)
    state = ledger.megabatch(megabatch).state
    if archive is not None and state in (State.COMPLETE, State.READY):
        check_sources(archive, plan, number)
    fence = ledger.claim_removal(megabatch, worker=worker, abandon=abandon, why=why)
    if fence is None:
        return Removed(megabatch=megabatch, plan=plan, freed=0)
    with kept(ledger, megabatch, fence) as lease:
        freed = Folder.of(fast, plan=plan, number=number, fsx=fsx).remove(check=lease.check)
    ledger.removed(megabatch, fence)
    log.info("%s: %.1f MB freed", megabatch, freed / 1e6)
    return Removed(megabatch=megabatch, plan=plan, freed=freed)
