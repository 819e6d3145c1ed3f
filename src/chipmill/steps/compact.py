"""compact: many small sheaves into few large ones; the content, and so the name, stays."""

import logging
from functools import partial

from chipmill.errors import RequestError
from chipmill.formats.snapshot import Snapshot
from chipmill.io.spool import spooled
from chipmill.io.store import Store
from chipmill.steps.bind import ROWS_PER_SHEAF, bind_snapshot
from chipmill.steps.history import Lock, advance
from chipmill.steps.sheaf import Sheaf, sheaves
from chipmill.steps.unbind import unbind_scenes

log = logging.getLogger(__name__)


def compact_index(
    archive: Store, *, chip_size: int = 256, whole: bool = False, lock: Lock | None = None
) -> Snapshot:
    """Bind the scenes of small sheaves of the newest snapshot anew.

    Merges may run at the same time. The old files stay until garbage collection takes them.

    Args:
        archive: Where the index is.
        chip_size: Edge of a chip in pixels.
        whole: Bind all sheaves anew, so that all scenes lie along one curve.
        lock: Taken where the store does not honour create-only writes.

    Raises:
        RequestError: There is no snapshot.
    """
    build = partial(_build, archive, whole=whole)
    compacted = advance(archive, chip_size, build, lock=lock)
    log.info("snapshot %s lies in %d files", compacted.snapshot, len(compacted.files))
    return compacted


def _build(archive: Store, newest: Snapshot | None, *, whole: bool) -> Snapshot | None:
    if newest is None:
        raise RequestError(f"{archive.url} has no snapshot to compact; merge the index first")
    stay: list[Sheaf] = []
    anew: list[Sheaf] = []
    for sheaf in sheaves(archive, newest):
        (anew if whole or sheaf.weight < ROWS_PER_SHEAF // 2 else stay).append(sheaf)
    if len(anew) < 2:  # noqa: PLR2004  one sheaf would become itself
        return None
    with spooled() as spool:
        pieces = [
            piece
            for sheaf in anew
            for piece in unbind_scenes(archive, sheaf, sheaf.column("scene"), spool=spool)
        ]
        return bind_snapshot(archive, newest, stay, pieces, chip_size=newest.chip_size)
