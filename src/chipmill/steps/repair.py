"""repair: what a person does to a megabatch by hand; the ledger keeps who did it and why."""

from pathlib import Path

from chipmill.io.fast import Folder
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.megabatch import parse_megabatch_id
from chipmill.steps.lease import kept
from chipmill.steps.remove import Removed, remove_megabatch


def give_up(
    megabatch: str, *, fast: Path, ledger: Ledger, who: str, why: str, fsx: str | None = None
) -> int:
    """End a staging whose worker is gone: its files are deleted, its bytes released.

    Returns:
        Bytes that were freed.

    Raises:
        BusyError: It is not being staged, or its worker's lease lasts.
        RequestError: There is no such megabatch.
    """
    plan, number = parse_megabatch_id(megabatch)
    fence = ledger.claim_staging_to_end_it(megabatch, worker=who)
    with kept(ledger, megabatch, fence) as lease:
        freed = Folder.of(fast, plan=plan, number=number, fsx=fsx).remove(check=lease.check)
    ledger.give_up(megabatch, fence, reason=why)
    return freed


def abandon(
    megabatch: str,
    *,
    archive: Store | None,
    fast: Path,
    ledger: Ledger,
    who: str,
    why: str,
    fsx: str | None = None,
) -> Removed:
    """Remove a megabatch that is complete, or ready and not begun; a run that begins gets it again.

    Raises:
        BusyError: A run reads it, or it is not there.
        MissingError: The archive (None: any) lacks a file of it.
        RequestError: There is no such megabatch.
    """
    return remove_megabatch(
        megabatch,
        archive=archive,
        fast=fast,
        ledger=ledger,
        worker=who,
        abandon=True,
        why=why,
        fsx=fsx,
    )
