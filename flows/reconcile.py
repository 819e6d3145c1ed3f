"""The flow `reconcile`."""

from prefect import flow

from chipmill.steps.prefetch import ALL
from tasks.megabatches import mend_storage, stage_ahead
from tasks.places import check_places
from tasks.reports import report_mended, report_storage


@flow(name="reconcile", flow_run_name="reconcile")
def reconcile(ahead: int = 1) -> None:
    """Mend what a crash or a lost message left, and stage what is missing; safe to run at any time.

    Args:
        ahead: Megabatches that each plan keeps ready beyond the one in use.
    """
    check_places("archive", "ledger", "fast")
    report_mended(mend_storage())
    report_storage(stage_ahead(ALL, ahead))
