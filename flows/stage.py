"""The flow `stage`."""

from prefect import flow

from chipmill.steps.prefetch import ALL
from tasks.megabatches import stage_ahead
from tasks.places import check_places
from tasks.reports import report_storage


@flow(name="stage", flow_run_name="stage {plan}")
def stage(plan: str = ALL, ahead: int = 1) -> None:
    """Keep megabatches ready on fast storage for all plans in use, as far as the budget goes.

    Args:
        plan: A plan that has its turn although no run reads it yet, or `all`.
        ahead: Megabatches that each plan keeps ready beyond the one in use.
    """
    check_places("archive", "ledger", "fast")
    report_storage(stage_ahead(plan, ahead))
