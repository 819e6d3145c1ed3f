"""Statistics of a data set: which scenes, each of them, all of them."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from chipmill.formats.statistics import DataStatistics
from chipmill.io.store import Store
from chipmill.model.stats_request import StatsRequest
from chipmill.settings import Settings
from chipmill.steps import normalize, stats
from chipmill.steps.shard import Shard, into_shards
from tasks.policy import DELAYS, RETRIES, transient


def _archive() -> Store:
    return Store.open(Settings.load().archive)


@task(
    name="choose snapshot",
    task_run_name="choose snapshot {request.snapshot}",
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def choose_snapshot(request: StatsRequest) -> StatsRequest:
    """Name the snapshot once, so that a merge in the meantime changes nothing."""
    return stats.resolved(request, _archive())


@task(
    name="find usable scenes",
    task_run_name="find usable scenes",
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def find_scenes(request: StatsRequest) -> list[Shard]:
    """Find the scenes that have usable chips and divide them into shards."""
    return into_shards([chips.scene for chips in stats.usable_chips(request, _archive())])


@task(
    name="measure",
    task_run_name="measure {shard}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def measure_scenes(shard: Shard, request: StatsRequest) -> Shard:
    """Measure the usable chips of each scene that is not measured yet."""
    archive = _archive()
    for chips in stats.usable_chips(request, archive, scenes=shard.scenes):
        stats.scene_sums(chips, archive, chip_size=request.chip_size)
    return shard


@task(
    name="merge statistics",
    task_run_name="merge statistics",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def merge_statistics(request: StatsRequest) -> DataStatistics:
    """Merge what was measured into statistics beside the snapshot, and into the items if asked."""
    archive = _archive()
    found = stats.snapshot_statistics(request, archive)
    if request.write_back:
        normalize.write_back(found, archive)
    return found
