"""The records of copied assets in the archive: one object an asset, so that no writer loses one."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from chipmill.errors import MissingError
from chipmill.formats import layout
from chipmill.formats.provenance import AssetRecord, decode_record
from chipmill.io.store import Store
from chipmill.model.scene import SceneRef

READS_AT_ONCE = 8


def read_records(
    scene: SceneRef, archive: Store, *, assets: Iterable[str] | None = None
) -> dict[str, AssetRecord]:
    """Read the records of a scene's copied assets, by the key of the asset.

    Args:
        scene: A scene of the archive.
        archive: Where it is.
        assets: The assets that are asked for; those that are not copied are left out. None: all
            that are copied.

    Raises:
        StoreError: An object is no record.
    """
    collection, item = scene.collection, scene.item
    if assets is None:
        keys = sorted(archive.keys(layout.provenance_prefix(collection, item)))
    else:
        keys = [layout.provenance_key(collection, item, asset) for asset in assets]

    def read(key: str) -> AssetRecord | None:
        with suppress(MissingError):
            return decode_record(archive.get(key), where=archive.href(key))
        return None

    if archive.is_near:  # starting threads takes longer than reading
        return {record.asset: record for record in map(read, keys) if record}
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        return {record.asset: record for record in pool.map(read, keys) if record}


def write_record(scene: SceneRef, archive: Store, record: AssetRecord) -> None:
    """Record that an asset is in the archive, verified."""
    key = layout.provenance_key(scene.collection, scene.item, record.asset)
    archive.put(key, record.encode())
