"""The flow `ingest`."""

from prefect import flow, unmapped

from chipmill.model.ingest_request import IngestRequest
from tasks.archive import copy_scenes, index_scenes, merge_index, rewrite_items, search_scenes
from tasks.places import check_places
from tasks.progress import follow
from tasks.reports import report_scenes, report_snapshot
from tasks.runner import chosen_runner


@flow(name="ingest", flow_run_name="ingest {request.sensor}", task_runner=chosen_runner())
def ingest(request: IngestRequest) -> str:
    """Search a catalogue, copy its assets, rewrite its items, index their chips, merge the index.

    Args:
        request: Which scenes, from where, in chips of which size.

    Returns:
        Name of the snapshot.
    """
    check_places("archive", "ledger")
    listed, shards = search_scenes(request)
    copied = copy_scenes.map(shards, unmapped(request))
    rewritten = rewrite_items.map(copied, unmapped(request))
    indexed = index_scenes.map(rewritten, unmapped(request))
    report_scenes(follow(indexed, what="ingest-progress"), listed)
    snapshot = merge_index(request.chip_size)
    report_snapshot(snapshot)
    return snapshot
