"""remove: free the space of a megabatch that every consumer has reported."""

import logging
from dataclasses import dataclass
from pathlib import Path

from chipmill.io.fast import Folder
from chipmill.io.ledger import Ledger
from chipmill.model.megabatch import parse_megabatch_id

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What removing one megabatch did."""

    megabatch: str
    plan: str
    freed: int
    """Bytes; 0 when it was removed already."""


def remove_megabatch(megabatch: str, *, fast: Path, ledger: Ledger, worker: str) -> Removed:
    """Remove a completed megabatch; safe to run twice and after a crash.

    The ledger's tombstone comes before the first file is deleted, and the bytes of the budget come
    back after the last.

    Raises:
        BusyError: It is not complete, or somebody else removes it.
        RequestError: There is no such megabatch.
    """
    plan, number = parse_megabatch_id(megabatch)
    fence = ledger.claim_removal(megabatch, worker=worker)
    if fence is None:
        return Removed(megabatch=megabatch, plan=plan, freed=0)
    freed = Folder.of(fast, plan=plan, number=number).remove()
    ledger.removed(megabatch, fence)
    log.info("%s: %.1f MB freed", megabatch, freed / 1e6)
    return Removed(megabatch=megabatch, plan=plan, freed=freed)
