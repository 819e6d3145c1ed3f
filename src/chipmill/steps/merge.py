"""merge: all parts of the index into one snapshot, named by its content.

A merge compares the parts that are there with those that the newest snapshot was made of, and
writes the sheaves that change: it costs what the change costs, and a listing.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa

from chipmill.errors import MissingError, RequestError, StoreError
from chipmill.formats import layout
from chipmill.formats.asset_table import asset_table
from chipmill.formats.chip_index import IndexedScene, read_part, read_part_scene, scene_row
from chipmill.formats.finding import decode_finding
from chipmill.formats.snapshot import Snapshot
from chipmill.io.records import read_records
from chipmill.io.spool import Place, Spool, spooled
from chipmill.io.store import Store
from chipmill.model.scene import SceneRef
from chipmill.steps.bind import bind_snapshot
from chipmill.steps.history import Lock, advance, load_snapshot
from chipmill.steps.sheaf import AT_ONCE, Piece, Rows, Sheaf, sheaves
from chipmill.steps.unbind import unbind_scenes

__all__ = ["load_snapshot", "merge_index"]

log = logging.getLogger(__name__)


def merge_index(archive: Store, *, chip_size: int = 256, lock: Lock | None = None) -> Snapshot:
    """Merge all parts of one chip size; the same parts always give the same snapshot.

    Any number of merges may run at once. Parts of scenes that a later ingest has quarantined are
    left out.

    Args:
        archive: Where the parts are and the snapshot goes.
        chip_size: Edge of a chip in pixels.
        lock: Taken where the store does not honour create-only writes.

    Raises:
        RequestError: There is no part.
        StoreError: A part is damaged, or the store needs a lock and there is none.
    """
    merged = advance(archive, chip_size, partial(_build, archive, chip_size), lock=lock)
    log.info("snapshot %s: %d scenes, %d chips", merged.snapshot, merged.scenes, merged.chips)
    return merged


def _build(archive: Store, chip_size: int, newest: Snapshot | None) -> Snapshot | None:
    """Write what has changed since the newest snapshot; None where nothing has."""
    parts = _parts(archive, chip_size)
    if not parts:
        raise RequestError(
            f"no scene is indexed with chips of {chip_size} px in {archive.url}; ingest some first"
        )
    whole: list[Sheaf] = []
    touched: list[tuple[Sheaf, set[str]]] = []
    for sheaf in sheaves(archive, newest) if newest else []:
        stay = _staying(sheaf, parts, chip_size)
        if len(stay) == len(sheaf.known):
            whole.append(sheaf)
        else:
            touched.append((sheaf, stay))
    if newest and not parts and not touched:
        return None
    with spooled() as spool:
        pieces = list(_spooled(archive, parts, chip_size=chip_size, spool=spool))
        for sheaf, stay in touched:
            pieces += unbind_scenes(archive, sheaf, stay, spool=spool)
        return bind_snapshot(archive, newest, whole, pieces, chip_size=chip_size)


def _parts(archive: Store, chip_size: int) -> dict[str, str]:
    """List the parts that belong into a snapshot: their keys, and which version each is."""
    listed = archive.listing(layout.parts_prefix(chip_size))
    parts = {entry.key: entry.version for entry in listed}
    for key in _quarantined(archive, chip_size, parts):
        del parts[key]
    return parts


def _quarantined(archive: Store, chip_size: int, parts: Mapping[str, str]) -> list[str]:
    """List the parts of scenes that cannot be used any more, as a later ingest has found."""

    def verdict(key: str) -> bool:
        try:
            finding = decode_finding(archive.get(key), where=archive.href(key))
        except MissingError:  # the scene has just gone through
            return False
        return finding.kind == "quarantined" and finding.chip_size in {None, chip_size}

    suspects = [
        key
        for key in archive.keys(layout.FINDINGS)
        if layout.part_of_finding(chip_size, key) in parts
    ]
    with ThreadPoolExecutor(archive.at_once(AT_ONCE)) as pool:
        verdicts = list(pool.map(verdict, suspects))
    out = [key for key, guilty in zip(suspects, verdicts, strict=True) if guilty]
    if out:
        log.warning("%d quarantined scenes with a part are left out", len(out))
    return [layout.part_of_finding(chip_size, key) for key in out]


def _staying(sheaf: Sheaf, parts: dict[str, str], chip_size: int) -> set[str]:
    """Name the scenes of a sheaf whose part is as it was, and strike these off `parts`."""
    stay: set[str] = set()
    columns = [sheaf.column(name) for name in ("scene", "collection", "item", "part")]
    for scene, collection, item, version in zip(*columns, strict=True):
        key = layout.part_key(chip_size, collection, item)
        if parts.get(key) == version:
            stay.add(scene)
            del parts[key]
    return stay


def _spooled(
    archive: Store, parts: Mapping[str, str], *, chip_size: int, spool: Spool
) -> Iterator[Piece]:
    """Read parts side by side, a bounded number ahead, and keep their bytes in the spool."""

    def read(key: str) -> tuple[IndexedScene, bytes] | None:
        try:
            data = archive.get(key)
        except MissingError:  # removed since it was listed
            return None
        scene = read_part_scene(data, where=archive.href(key))
        if layout.part_key(chip_size, scene.collection, scene.item) != key:
            raise StoreError(f"{archive.href(key)} is the part of {scene.scene}; remove the copy")
        return scene, data

    keys = sorted(parts)
    with ThreadPoolExecutor(archive.at_once(AT_ONCE)) as pool:
        for start in range(0, len(keys), 8 * AT_ONCE):
            some = keys[start : start + 8 * AT_ONCE]
            for key, found in zip(some, pool.map(read, some), strict=True):
                if found is not None:
                    scene, data = found
                    where = archive.href(key)
                    rows = partial(_rows, spool, spool.add(data), version=parts[key], where=where)
                    yield _piece(archive, scene, rows)


def _piece(archive: Store, scene: IndexedScene, rows: Callable[[], Rows]) -> Piece:
    return Piece(
        scene=scene.scene,
        digest=scene.digest,
        box=scene.bbox,
        size=scene.rows * scene.cols,
        rows=rows,
        assets=partial(_assets, archive, scene.collection, scene.item),
    )


def _rows(spool: Spool, place: Place, *, version: str, where: str) -> Rows:
    scene, chips = read_part(spool.read(place), where=where)
    return scene_row(scene, part=version), chips


def _assets(archive: Store, collection: str, item: str) -> pa.Table:
    records = read_records(SceneRef(collection=collection, item=item), archive)
    return asset_table(f"{collection}/{item}", records.values())
