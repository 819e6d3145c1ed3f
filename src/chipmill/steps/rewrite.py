"""rewrite: a static STAC item that is true of the copied files."""

import json
import logging
from dataclasses import fields, replace
from typing import cast

from chipmill.errors import SceneError
from chipmill.formats import layout
from chipmill.formats.copied import CopiedFile, CopiedScene
from chipmill.formats.grid_reading import Json
from chipmill.formats.item_reading import read_item
from chipmill.formats.item_writing import write_collection, write_item
from chipmill.formats.provenance import AssetRecord, this_version
from chipmill.io.raster import open_raster
from chipmill.io.records import read_records
from chipmill.io.store import Store
from chipmill.model.choice import choose, fitting
from chipmill.model.extent import extent
from chipmill.model.radiometry import OffsetChoice
from chipmill.model.scene import Asset, SceneRef
from chipmill.model.sensor import Sensor
from chipmill.sensors import sensor
from chipmill.steps.asset_statistics import asset_statistics
from chipmill.steps.facts import aligned, facts_of
from chipmill.steps.offset import offset_evidence, refuse_unknown

log = logging.getLogger(__name__)


def rewrite_item(
    scene: SceneRef,
    archive: Store,
    *,
    bands: tuple[str, ...] = (),
    offset: OffsetChoice = "from evidence",
    statistics: bool = True,
) -> str:
    """Write the archive's item of a scene whose assets are copied.

    Args:
        scene: A scene that `copy_assets` copied.
        archive: Where its files are, and where the item goes.
        bands: chipmill's band names; empty: all of the sensor's default.
        offset: What the user knows better than the evidence of the offset in the pixels.
        statistics: Measure the valid pixels of each band, which decodes all of them once.

    Returns:
        Key of the item.

    Raises:
        SceneError: An asset is not copied, is no raster that can be used, lies elsewhere than the
            item or does not align with the others; or the offset of its pixels cannot be told.
    """
    item = json.loads(archive.get(layout.source_item_key(scene.collection, scene.item)))
    copied = _copied(scene, item, bands=bands, archive=archive, offset=offset)
    if statistics:
        measured = asset_statistics(scene, copied.choice, copied.files, archive)
        copied = replace(copied, statistics=measured)
    written = write_item(copied, version=this_version())
    if findings := written["properties"].get("chipmill:findings"):
        log.warning("%s: its files differ from its item and win: %s", scene, "; ".join(findings))
    collection = layout.collection_key(scene.collection)
    if archive.size(collection) is None:
        archive.put(collection, json.dumps(write_collection(copied.sensor), indent=1).encode())
    key = layout.item_key(scene.collection, scene.item)
    archive.put(key, json.dumps(written, indent=1, allow_nan=False).encode())
    return key


def _copied(
    scene: SceneRef,
    item: Json,
    *,
    bands: tuple[str, ...],
    archive: Store,
    offset: OffsetChoice,
) -> CopiedScene:
    """Gather what the item is made of, and refuse what cannot be one scene."""
    kind, parsed = sensor(scene.collection), read_item(item)
    choice = choose(parsed, kind, bands=bands)
    records = read_records(scene, archive, assets=[asset.key for asset in choice.assets])
    files = {
        asset.key: _file(
            asset, records.get(asset.key), archive, kind, is_quality=asset == choice.quality
        )
        for asset in choice.assets
    }
    choice = fitting(choice, kind, {key: each.bands for key, each in files.items()})
    finest = aligned(choice, files, where=str(scene))
    evidence = None
    if kind.offset_rule:
        evidence = offset_evidence(
            kind.offset_rule,
            cast("Json", item.get("properties") or {}),
            choice=choice,
            opened=lambda key: open_raster(archive, files[key].record.key),
            asked=offset,
        )
        refuse_unknown(evidence, where=str(scene))
    return CopiedScene(
        item=item,
        scene=parsed,
        sensor=kind,
        choice=choice,
        files=files,
        extent=extent(finest),
        offset=evidence,
    )


def _file(
    asset: Asset, record: AssetRecord | None, archive: Store, kind: Sensor, *, is_quality: bool
) -> CopiedFile:
    if record is None:
        raise SceneError(f"asset {asset.key!r} is not in the archive yet; copy the scene first")
    with open_raster(archive, record.key) as raster:
        facts = facts_of(raster.header, asset, kind, is_quality=is_quality)
    said = {each.name: getattr(facts, each.name) for each in fields(facts)}
    return CopiedFile(href=archive.href(record.key), record=record, **said)
