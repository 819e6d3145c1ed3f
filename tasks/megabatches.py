"""From a snapshot onto fast storage and away again: plan, stage, remove."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from chipmill.formats.plan import Plan
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.manner import Manner
from chipmill.model.plan_request import PlanRequest
from chipmill.settings import Settings
from chipmill.steps import plan, prefetch, reconcile, remove
from chipmill.steps.stage import Staged
from tasks.policy import DELAYS, RETRIES, transient
from tasks.progress import staging_bar


def _worker() -> str:
    """Say in the ledger which flow run does the work."""
    return f"flow run {flow_run.get_name()}"


@task(
    name="plan",
    task_run_name="plan {request.snapshot} epoch {request.epoch}",
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def plan_megabatches(request: PlanRequest) -> Plan:
    """Plan an epoch of a snapshot and record its megabatches in the ledger."""
    settings = Settings.load()
    planned = plan.make_plan(request, Store.open(settings.archive))
    with Ledger.open(settings.ledger) as ledger:
        prefetch.register(planned, ledger, budget=settings.budget)
    return planned


@task(
    name="stage",
    task_run_name="stage {plan_name}",
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def stage_ahead(plan_name: str, ahead: int) -> list[Staged]:
    """Put on fast storage what is wanted next, as far as the budget goes."""
    settings = Settings.load()
    with Ledger.open(settings.ledger) as ledger:
        return prefetch.stage_ahead(
            plan_name,
            archive=Store.open(settings.archive),
            fast=settings.fast,
            ledger=ledger,
            budget=settings.budget,
            worker=_worker(),
            ahead=ahead,
            manner=Manner.of(settings, tell=staging_bar()),
        )


@task(
    name="remove",
    task_run_name="remove {megabatch}",
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def remove_megabatch(megabatch: str, *, abandon: bool = False) -> remove.Removed:
    """Free the space of a megabatch that every consumer has reported."""
    settings = Settings.load()
    with Ledger.open(settings.ledger) as ledger:
        return remove.remove_megabatch(
            megabatch,
            archive=Store.open(settings.archive),
            fast=settings.fast,
            ledger=ledger,
            worker=_worker(),
            abandon=abandon,
            fsx=settings.fsx_file_system,
        )


@task(
    name="reconcile",
    task_run_name="reconcile",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def mend_storage() -> list[reconcile.Mended]:
    """Mend what a crash or a lost message left."""
    settings = Settings.load()
    with Ledger.open(settings.ledger) as ledger:
        return reconcile.reconcile(
            archive=Store.open(settings.archive),
            fast=settings.fast,
            ledger=ledger,
            worker=_worker(),
            fsx=settings.fsx_file_system,
        )
