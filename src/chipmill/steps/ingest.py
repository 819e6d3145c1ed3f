"""ingest: what happens to a scene on its way into the index, and the whole way in one process."""

import logging
from collections.abc import Mapping, Sequence

from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.model.access import Access, is_local
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.settings import Settings
from chipmill.steps.copy import copy_assets
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.shard import Shard, Work, clear_findings, each_scene

log = logging.getLogger(__name__)


def ingest_scenes(
    request: IngestRequest,
    scenes: Sequence[SceneRef],
    archive: Store,
    *,
    at_once: int = 8,
    access: Access | None = None,
) -> tuple[Shard, Snapshot]:
    """Copy, rewrite and index scenes that a search has found, and merge the index.

    A scene that fails, fails alone; what is done already is skipped.

    Args:
        request: Which bands, in chips of which size.
        scenes: What `search_scenes` found.
        archive: Where all goes.
        at_once: Assets that are copied side by side.
        access: What may be reached; unless given, what the settings say.

    Returns:
        The scenes that went through with what was counted, and the findings of the others; and the
        snapshot.

    Raises:
        RequestError: No scene went through, now or before.
    """
    rules = access or Access.of(Settings.load(), local=is_local(request.catalog))
    through = {
        "copy": copying(request, archive, at_once=at_once, access=rules),
        "rewrite": rewriting(request, archive),
        "index": indexing(request, archive),
    }
    shard = Shard(name="all scenes", scenes=tuple(scenes))
    for name, work in through.items():
        size = request.chip_size if name == "index" else None
        shard = each_scene(shard, work, step=name, archive=archive, chip_size=size)
        log.info("%s: %d of %d scenes are through", name, len(shard.scenes), len(scenes))
    clear_findings(shard, archive)
    return shard, merge_index(archive, chip_size=request.chip_size)


def copying(request: IngestRequest, archive: Store, *, at_once: int, access: Access) -> Work:
    """Give what copies the chosen assets of a scene."""

    def work(scene: SceneRef) -> Mapping[str, int]:
        done = copy_assets(scene, archive, bands=request.bands, at_once=at_once, access=access)
        return {"copied": done.copied, "skipped": done.skipped, "bytes": done.size}

    return work


def rewriting(request: IngestRequest, archive: Store) -> Work:
    """Give what writes the item of a scene anew, true of the copied files."""

    def work(scene: SceneRef) -> Mapping[str, int]:
        rewrite_item(
            scene,
            archive,
            bands=request.bands,
            offset=request.offset,
            statistics=request.statistics,
        )
        return {}

    return work


def indexing(request: IngestRequest, archive: Store) -> Work:
    """Give what counts cloud and nodata of every chip of a scene."""

    def work(scene: SceneRef) -> Mapping[str, int]:
        done = index_chips(
            scene, archive, chip_size=request.chip_size, cloud_classes=request.cloud_classes
        )
        return {"chips": done.chips, "indexed": int(done.fresh)}

    return work
