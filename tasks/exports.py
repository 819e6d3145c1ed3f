"""A plan kept for good: begin, export its scenes, seal; and its further forms."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from chipmill.formats.export import Export
from chipmill.formats.rendering import Rendering
from chipmill.io.store import Store
from chipmill.model.export_request import ExportRequest
from chipmill.settings import Settings
from chipmill.steps import export, render, seal
from chipmill.steps.export import Exporting, ExportShard
from chipmill.steps.render import RenderShard
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


@task(
    name="divide rendering",
    task_run_name="divide rendering",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def divide_rendering(whole: Export, request: ExportRequest) -> list[RenderShard]:
    """Divide the files of all further forms into shards."""
    return render.render_shards(whole.name, _archive(), forms=request.renderings)


@task(
    name="render files",
    task_run_name="render {shard}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
    tags=["archive-write"],
)
def render_files(shard: RenderShard) -> int:
    """Write the files of a shard that are not there yet."""
    return render.render(shard, _archive())


@task(
    name="seal renderings",
    task_run_name="seal renderings",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def seal_renderings(whole: Export, request: ExportRequest) -> list[Rendering]:
    """Write the documents that say that the further forms are whole."""
    return render.seal_renderings(whole.name, _archive(), forms=request.renderings)
