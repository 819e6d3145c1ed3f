"""export: the chip packs of a plan kept in the archive for good, megabatch by megabatch.

A pack comes first, then the record of it, then, when all are there, the manifests, and the document
of the whole export last. An export that was interrupted goes on where it stopped: a pack is made
again only where its record is missing.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from chipmill.errors import AlreadyThereError, MissingError, RequestError, StoreError
from chipmill.formats import layout
from chipmill.formats.export import ExportClaim, decode_export_document
from chipmill.formats.pack_index import decode_index, encode_index
from chipmill.formats.plan import Plan, PlannedScene
from chipmill.formats.statistics import DataStatistics
from chipmill.io.fast import Folder
from chipmill.io.packed import index_pack
from chipmill.io.store import PART_BYTES, Store
from chipmill.model.export_request import ExportRequest
from chipmill.model.manner import DEFAULT, Manner
from chipmill.steps.normalize import statistics_of
from chipmill.steps.pack import write_pack
from chipmill.steps.plan import load_plan, load_scenes, make_plan
from chipmill.steps.shard import shard_size

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporting:
    """An export that is begun."""

    name: str
    plan: str
    manner: Manner


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportShard:
    """Scenes of one megabatch that one task run exports."""

    megabatch: int
    first: int
    stop: int
    """The scenes from `first` to before `stop`, in the plan's order."""

    def __str__(self) -> str:
        """Name it, as task runs show it."""
        return f"megabatch {self.megabatch}, scenes {self.first + 1} to {self.stop}"


def begin_export(request: ExportRequest, archive: Store) -> Exporting:
    """Find or make the plan, and take the name for it; safe to repeat.

    Raises:
        RequestError: There is no such plan, no chip is usable, or the name is another plan's.
    """
    plan = make_plan(request.chips, archive).plan if request.chips else str(request.plan)
    if not request.chips:
        load_plan(archive, plan)
    name = request.name or plan
    key = layout.export_claim_key(name)
    try:
        archive.create(key, ExportClaim(name=name, plan=plan, codec=request.codec).encode())
    except AlreadyThereError as err:
        taken = decode_export_document(ExportClaim, archive.get(key), where=archive.href(key))
        raise RequestError(
            f"the name {name!r} is taken by an export of plan {taken.plan} with codec "
            f"{taken.codec}, and this one is of plan {plan} with codec {request.codec}; choose "
            "another name"
        ) from err
    return Exporting(name=name, plan=plan, manner=Manner(codec=request.codec))


def export_shards(exporting: Exporting, archive: Store) -> list[ExportShard]:
    """Divide the scenes of an export into task runs; none where the export is whole."""
    if archive.size(layout.export_key(exporting.name)) is not None:
        return []
    plan = load_plan(archive, exporting.plan)
    size = shard_size(sum(part.scenes for part in plan.megabatches))
    return [
        ExportShard(megabatch=number, first=first, stop=min(first + size, part.scenes))
        for number, part in enumerate(plan.megabatches)
        for first in range(0, part.scenes, size)
    ]


def export_scenes(shard: ExportShard, exporting: Exporting, archive: Store) -> int:
    """Write the packs of some scenes that are not there yet; gives how many were written.

    Raises:
        SceneError: A file of a scene is damaged, or its files do not align.
        TransientError: The store does not answer, or there is no room for temporary files.
    """
    plan = load_plan(archive, exporting.plan)
    scenes = load_scenes(archive, plan.plan, shard.megabatch)[shard.first : shard.stop]
    write = partial(
        _export_scene,
        exporting=exporting,
        plan=plan,
        archive=archive,
        statistics=statistics_of(plan, archive),
    )
    with ThreadPoolExecutor(DEFAULT.scenes_at_once) as pool:
        return sum(pool.map(write, scenes))


def pack_keys(scene: PlannedScene, exporting: Exporting) -> tuple[str, str]:
    """Name the pack of a scene and its record."""
    file = layout.pack_file(scene.collection, scene.scene)
    path = f"{layout.export_folder(scene.megabatch)}/{file}"
    return layout.export_prefix(exporting.name) + path, layout.export_record_key(
        exporting.name, path
    )


def _export_scene(
    scene: PlannedScene,
    *,
    exporting: Exporting,
    plan: Plan,
    archive: Store,
    statistics: DataStatistics | None,
) -> bool:
    """Write the pack of one scene and its record, unless both are there."""
    key, record_key = pack_keys(scene, exporting)
    if _recorded(archive, key, record_key):
        return False
    with TemporaryDirectory(prefix="chipmill-") as folder:
        pack, header = write_pack(
            scene,
            chip_size=plan.chip_size,
            archive=archive,
            folder=Folder(Path(folder)),
            fence=0,
            statistics=statistics,
            manner=exporting.manner,
        )
        path = Path(folder, pack.file)
        entry = index_pack(path, pack, header)
        archive.write(key, _pieces(path))
    if archive.size(key) != pack.size:
        raise StoreError(
            f"{archive.href(key)} has {archive.size(key)} bytes where {pack.size} were written; "
            "look at the store, and who else writes there"
        )
    archive.put(record_key, encode_index([entry]))
    return True


def _recorded(archive: Store, key: str, record_key: str) -> bool:
    """Tell whether a pack lies there as its record says."""
    try:
        raw = archive.get(record_key)
    except MissingError:
        return False
    (entry,) = decode_index(raw, where=archive.href(record_key))
    return archive.size(key) == entry.pack.size


def _pieces(path: Path) -> Iterator[bytes]:
    """Read a file in pieces."""
    with path.open("rb") as file:
        while piece := file.read(PART_BYTES):
            yield piece
