"""The flow `export`."""

from prefect import flow, unmapped

from chipmill.model.export_request import ExportRequest
from tasks.exports import (
    begin_export,
    divide_export,
    divide_rendering,
    export_scenes,
    render_files,
    seal_export,
    seal_renderings,
)
from tasks.places import check_places
from tasks.progress import follow
from tasks.reports import report_export
from tasks.runner import chosen_runner


@flow(name="export", flow_run_name="export {request.name}", task_runner=chosen_runner())
def export(request: ExportRequest) -> str:
    """Keep the chips of a plan in the archive for good, for training without fast storage.

    Args:
        request: Which chips, under which name, in which forms.

    Returns:
        URL of the export.
    """
    check_places("archive")
    begun = begin_export(request)
    shards = divide_export(begun)
    follow(export_scenes.map(shards, unmapped(begun)), what="export-progress")
    whole = seal_export(begun)
    files = divide_rendering(whole, request)
    follow(render_files.map(files), what="rendering-progress")
    renderings = seal_renderings(whole, request)
    return report_export(whole, renderings)
