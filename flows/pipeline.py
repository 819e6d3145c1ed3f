"""The flow `pipeline`."""

from prefect import flow

from chipmill.model.ingest_request import IngestRequest
from chipmill.model.plan_request import PlanRequest
from flows.ingest import ingest
from flows.plan import plan
from flows.stage import stage
from tasks.places import check_places


@flow(name="pipeline", flow_run_name="pipeline")
def pipeline(requests: list[IngestRequest], training: PlanRequest) -> str:
    """Bring scenes into the archive, plan an epoch of them, and stage its first megabatch.

    Args:
        requests: Which scenes.
        training: What the training run will see of them.

    Returns:
        Name of the plan.
    """
    check_places("archive", "ledger", "fast")
    for request in requests:
        ingest(request)
    planned = plan(training)
    stage(planned, ahead=0)
    return planned
