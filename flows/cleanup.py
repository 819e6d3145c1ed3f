"""The flow `cleanup`."""

from prefect import flow

from tasks.megabatches import remove_megabatch, stage_ahead
from tasks.reports import report_storage


@flow(name="cleanup", flow_run_name="clean up {megabatch}")
def cleanup(megabatch: str, ahead: int = 1) -> None:
    """Free the space of a megabatch that is trained on, and stage the next; safe to run twice.

    Args:
        megabatch: Id of the megabatch, as the ledger has it.
        ahead: Megabatches that are kept ready beyond the one in use.
    """
    removed = remove_megabatch(megabatch)
    staged = stage_ahead(removed.plan, ahead)
    report_storage(staged, removed)
