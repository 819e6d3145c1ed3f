"""A plan kept for good: begin, export its scenes, seal."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from chipmill.formats.export import Export
from chipmill.io.store import Store
from chipmill.model.export_request import ExportRequest
from chipmill.settings import Settings
from chipmill.steps import export, seal
from chipmill.steps.export import Exporting, ExportShard
from tasks.policy import DELAYS, RETRIES, transient


def _archive() -> Store:
    settings = Settings.load()
    return Store.open(settings.archive, patience=settings.patience)


@task(
    name="begin export",
    task_run_name="begin export {request.name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def begin_export(request: ExportRequest) -> Exporting:
    """Find or make the plan, and take the name for it."""
    return export.begin_export(request, _archive())


@task(
    name="divide export",
    task_run_name="divide export",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def divide_export(exporting: Exporting) -> list[ExportShard]:
    """Divide the scenes of the plan into shards."""
    return export.export_shards(exporting, _archive())


@task(
    name="export scenes",
    task_run_name="export {shard}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
    tags=["archive-write"],
)
def export_scenes(shard: ExportShard, exporting: Exporting) -> int:
    """Write the packs of a shard's scenes that are not there yet."""
    return export.export_scenes(shard, exporting, _archive())


@task(
    name="seal export",
    task_run_name="seal export {exporting.name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def seal_export(exporting: Exporting) -> Export:
    """Write the manifests, and last the document that says that the export is whole."""
    return seal.seal_export(exporting, _archive())
