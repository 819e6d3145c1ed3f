"""From a catalogue into the archive: search, copy, rewrite, index, merge."""

from datetime import timedelta

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.access import Access, is_local
from chipmill.model.ingest_request import IngestRequest
from chipmill.settings import Settings
from chipmill.steps import collect, compact, ingest, merge, search
from chipmill.steps.search import Listed
from chipmill.steps.shard import Shard, clear_findings, each_scene, into_shards
from chipmill.steps.turn import turns
from tasks.policy import DELAYS, RETRIES, transient


def _archive() -> Store:
    settings = Settings.load()
    return Store.open(settings.archive, patience=settings.patience)


@task(
    name="search",
    task_run_name="search {request.sensor}",
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def search_scenes(request: IngestRequest) -> tuple[Listed, list[Shard]]:
    """Find the scenes of a request and divide them into shards."""
    settings = Settings.load()
    found = search.list_scenes(
        request, _archive(), at_once=settings.searches_at_once, rate=settings.search_rate
    )
    return found, into_shards(found.scenes, size=request.shard_size)


@task(name="copy", task_run_name="copy {shard}", cache_policy=NO_CACHE, tags=["archive-write"])
def copy_scenes(shard: Shard, request: IngestRequest) -> Shard:
    """Copy the chosen assets of each scene."""
    archive, settings = _archive(), Settings.load()
    access = Access.of(settings, local=is_local(request.catalog))
    work = ingest.copying(request, archive, at_once=settings.copies_at_once, access=access)
    return each_scene(shard, work, step="copy", archive=archive)


@task(name="rewrite", task_run_name="rewrite {shard}", cache_policy=NO_CACHE)
def rewrite_items(shard: Shard, request: IngestRequest) -> Shard:
    """Write the STAC item of each scene anew, true of the copied files."""
    archive = _archive()
    return each_scene(shard, ingest.rewriting(request, archive), step="rewrite", archive=archive)


@task(name="index", task_run_name="index {shard}", cache_policy=NO_CACHE)
def index_scenes(shard: Shard, request: IngestRequest) -> Shard:
    """Count cloud and nodata of every chip of each scene."""
    archive, size = _archive(), request.chip_size
    work = ingest.indexing(request, archive)
    indexed = each_scene(shard, work, step="index", archive=archive, chip_size=size)
    clear_findings(indexed, archive)
    return indexed


@task(
    name="merge",
    task_run_name="merge chips of {chip_size} px",
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def merge_index(chip_size: int) -> str:
    """Merge all parts of the index into a snapshot; gives its name."""
    lock = turns(lambda: Ledger.open(Settings.load().ledger))
    return merge.merge_index(_archive(), chip_size=chip_size, lock=lock).snapshot


@task(
    name="compact",
    task_run_name="compact chips of {chip_size} px",
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
)
def compact_index(chip_size: int) -> str:
    """Bind the small files of the newest snapshot into few; gives its name, which stays."""
    lock = turns(lambda: Ledger.open(Settings.load().ledger))
    return compact.compact_index(_archive(), chip_size=chip_size, lock=lock).snapshot


@task(
    name="collect",
    task_run_name="collect garbage",
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
)
def collect_garbage(keep: int, hours: int, *, remove: bool) -> int:
    """Remove what no snapshot that is kept is made of, or say what would go; counts it."""
    age = timedelta(hours=hours)
    found = collect.collect_garbage(_archive(), keep=keep, age=age, remove=remove)
    done = "removed" if remove else "no longer needed"
    get_run_logger().info("%d objects, %d bytes: %s", len(found.keys), found.size, done)
    return len(found.keys)
