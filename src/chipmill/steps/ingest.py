"""ingest: the whole way from a catalogue into the index, in this process."""

import logging
from collections.abc import Mapping, Sequence

from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.shard import Shard, clear_findings, each_scene

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

    def copy(scene: SceneRef) -> Mapping[str, int]:
        done = copy_assets(scene, archive, bands=request.bands, at_once=at_once, access=access)
        return {"copied": done.copied, "skipped": done.skipped, "bytes": done.size}

    def rewrite(scene: SceneRef) -> Mapping[str, int]:
        rewrite_item(scene, archive, bands=request.bands, statistics=request.statistics)
        return {}

    def index(scene: SceneRef) -> Mapping[str, int]:
        done = index_chips(
            scene, archive, chip_size=request.chip_size, cloud_classes=request.cloud_classes
        )
        return {"chips": done.chips, "indexed": int(done.fresh)}

    shard = Shard(name="all scenes", scenes=tuple(scenes))
    for name, work in (("copy", copy), ("rewrite", rewrite), ("index", index)):
        shard = each_scene(shard, work, step=name, archive=archive)
        log.info("%s: %d of %d scenes are through", name, len(shard.scenes), len(scenes))
    clear_findings(shard, archive)
    return shard, merge_index(archive, chip_size=request.chip_size)
