"""The flow `stats`."""

from prefect import flow, unmapped

from chipmill.model.stats_request import StatsRequest
from tasks.places import check_places
from tasks.progress import follow
from tasks.reports import report_statistics
from tasks.runner import chosen_runner
from tasks.statistics import choose_snapshot, find_scenes, measure_scenes, merge_statistics


@flow(name="stats", flow_run_name="stats of {request.snapshot}", task_runner=chosen_runner())
def stats(request: StatsRequest) -> str:
    """Measure mean and deviation of each band over the usable chips of a snapshot.

    Args:
        request: Which chips of which snapshot, and whether items get the figures.

    Returns:
        Name of the statistics.
    """
    check_places("archive")
    chosen = choose_snapshot(request)
    shards = find_scenes(chosen)
    follow(measure_scenes.map(shards, unmapped(chosen)), what="stats-progress")
    found = merge_statistics(chosen)
    report_statistics(found)
    return found.statistics
