"""The flow `plan`."""

from prefect import flow

from chipmill.model.plan_request import PlanRequest
from tasks.megabatches import plan_megabatches
from tasks.places import check_places
from tasks.reports import report_plan


@flow(name="plan", flow_run_name="plan epoch {request.epoch}")
def plan(request: PlanRequest) -> str:
    """Plan an epoch of a snapshot: which scenes are on fast storage together, in which order.

    Args:
        request: Which chips, how many at a time.

    Returns:
        Name of the plan.
    """
    check_places("archive", "ledger")
    planned = plan_megabatches(request)
    report_plan(planned)
    return planned.plan
