"""rewrite: a static STAC item that is true of the copied files."""

import json
import logging
from importlib.metadata import version

from chipmill.errors import SceneError
from chipmill.formats import layout
from chipmill.formats.item_reading import read_item
from chipmill.formats.item_writing import CopiedFile, CopiedScene, write_collection, write_item
from chipmill.formats.provenance import AssetRecord, decode_record
from chipmill.io.raster import open_raster
from chipmill.io.store import Store
from chipmill.model.choice import FileBands, choose, fitting
from chipmill.model.footprint import pixel_metres
from chipmill.model.scene import SceneRef
from chipmill.model.sensor import Sensor
from chipmill.sensors import sensor
from chipmill.steps.asset_statistics import asset_statistics

log = logging.getLogger(__name__)


def rewrite_item(
    scene: SceneRef, archive: Store, *, bands: tuple[str, ...] = (), statistics: bool = True
) -> str:
    """Write the archive's item of a scene whose assets are copied.

    Args:
        scene: A scene of the archive.
        archive: Where its files are.
        bands: chipmill's names; empty: the sensor's default.
        statistics: Measure the valid pixels of each band, which decodes all of them once.

    Returns:
        Key of the item.

    Raises:
        SceneError: An asset is not copied, or is no raster that can be used.
    """
    kind = sensor(scene.collection)
    item = json.loads(archive.get(layout.source_item_key(scene.collection, scene.item)))
    parsed = read_item(item)
    choice = choose(parsed, kind, bands=bands)
    records = _records(scene, archive)
    latitude = (parsed.bbox[1] + parsed.bbox[3]) / 2
    files = {
        asset.key: _file(records, asset.key, archive, kind=kind, latitude=latitude)
        for asset in choice.assets
    }
    choice = fitting(choice, kind, {key: each.bands for key, each in files.items()})
    copied = CopiedScene(
        item=item,
        scene=parsed,
        sensor=kind,
        choice=choice,
        files=files,
        statistics=asset_statistics(scene, choice, files, archive) if statistics else {},
    )
    written = write_item(copied, version=version("chipmill"))
    if findings := written["properties"].get("chipmill:findings"):
        log.warning("%s: its files differ from its item and win: %s", scene, "; ".join(findings))
    collection = layout.collection_key(scene.collection)
    if archive.size(collection) is None:
        archive.put(collection, json.dumps(write_collection(kind), indent=1).encode())
    key = layout.item_key(scene.collection, scene.item)
    archive.put(key, json.dumps(written, indent=1).encode())
    return key


def _records(scene: SceneRef, archive: Store) -> dict[str, AssetRecord]:
    key = layout.provenance_key(scene.collection, scene.item)
    return decode_record(archive.get(key), where=archive.href(key)).assets


def _file(
    records: dict[str, AssetRecord],
    key: str,
    archive: Store,
    *,
    kind: Sensor,
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
        bands=FileBands(header.bands, header.alpha),
        dtype=header.dtype,
        nodata=kind.nodata_of(header.nodata, masked=header.masked, alpha=header.alpha is not None),
        resolution=pixel_metres(header.grid, latitude=latitude),
    )
