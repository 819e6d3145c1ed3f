"""The flow `stage`."""

from prefect import flow

from tasks.megabatches import stage_ahead
from tasks.reports import report_storage


@flow(name="stage", flow_run_name="stage {plan}")
def stage(plan: str, ahead: int = 1) -> None:
    """Keep megabatches of a plan ready on fast storage, as far as the budget goes.

    Args:
        plan: Name of the plan.
        ahead: Megabatches that are kept ready beyond the one in use.
    """
    report_storage(stage_ahead(plan, ahead))
