"""rewrite: a static STAC item that is true of the copied files."""

import json
import logging
from collections.abc import Mapping
from importlib.metadata import version

from chipmill.errors import SceneError
from chipmill.formats import layout
from chipmill.formats.item_reading import read_item
from chipmill.formats.item_writing import CopiedFile, CopiedScene, write_collection, write_item
from chipmill.formats.provenance import AssetRecord
from chipmill.io.raster import open_raster
from chipmill.io.records import read_records
from chipmill.io.store import Store
from chipmill.model.choice import Choice, choose
from chipmill.model.footprint import pixel_metres
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensor

log = logging.getLogger(__name__)


def rewrite_item(scene: SceneRef, archive: Store, *, bands: tuple[str, ...] = ()) -> str:
    """Write the archive's item of a scene whose assets are copied.

    Returns:
        Key of the item.

    Raises:
        SceneError: An asset is not copied, or is no raster that can be used.
    """
    kind = sensor(scene.collection)
    item = json.loads(archive.get(layout.source_item_key(scene.collection, scene.item)))
    parsed = read_item(item)
    choice = choose(parsed, kind, bands=bands)
    records = read_records(scene, archive, assets=[asset.key for asset in choice.assets])
    latitude = (parsed.bbox[1] + parsed.bbox[3]) / 2
    files = {
        asset.key: _file(records, asset.key, archive, default=kind.nodata, latitude=latitude)
        for asset in choice.assets
    }
    _check(scene, choice, files)
    copied = CopiedScene(item=item, scene=parsed, sensor=kind, choice=choice, files=files)
    written = write_item(copied, version=version("chipmill"))
    if findings := written["properties"].get("chipmill:findings"):
        log.warning("%s: its files differ from its item and win: %s", scene, "; ".join(findings))
    collection = layout.collection_key(scene.collection)
    if archive.size(collection) is None:
        archive.put(collection, json.dumps(write_collection(kind), indent=1).encode())
    key = layout.item_key(scene.collection, scene.item)
    archive.put(key, json.dumps(written, indent=1).encode())
    return key


def _check(scene: SceneRef, choice: Choice, files: Mapping[str, CopiedFile]) -> None:
    """Refuse bands that the files do not have."""
    for source in choice.bands:
        count = files[source.asset.key].bands
        if source.index > count:
            raise SceneError(
                f"band {source.band.name!r} of {scene} should be number {source.index} of asset "
                f"{source.asset.key!r}, which has {count} bands; leave the band or the scene out"
            )


def _file(
    records: dict[str, AssetRecord],
    key: str,
    archive: Store,
    *,
    default: float | None,
    latitude: float,
) -> CopiedFile:
    record = records.get(key)
    if record is None:
        raise SceneError(f"asset {key!r} is not in the archive yet; copy the scene first")
    with open_raster(archive, record.key) as raster:
        header = raster.header
    return CopiedFile(
        href=archive.href(record.key),
        record=record,
        grid=header.grid,
        bands=header.bands,
        dtype=header.dtype,
        nodata=default if header.nodata is None else header.nodata,
        resolution=pixel_metres(header.grid, latitude=latitude),
    )
