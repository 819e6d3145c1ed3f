"""The flow `cleanup`."""

from prefect import flow

from chipmill.steps.prefetch import ALL
from tasks.megabatches import remove_megabatch, stage_ahead
from tasks.places import check_places
from tasks.reports import report_storage


@flow(name="cleanup", flow_run_name="clean up {megabatch}")
def cleanup(megabatch: str, ahead: int = 1, *, abandon: bool = False) -> None:
    """Free the space of a megabatch that is trained on, and stage the next; safe to run twice.

    Args:
        megabatch: Id of the megabatch, as the ledger has it.
        ahead: Megabatches that each plan keeps ready beyond the one in use.
        abandon: Also remove one that is ready and that no run has begun to use.
    """
    check_places("archive", "ledger", "fast")
    removed = remove_megabatch(megabatch, abandon=abandon)
    staged = stage_ahead(ALL, ahead)
    report_storage(staged, removed)
