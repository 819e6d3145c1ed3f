"""rewrite: a static STAC item that is true of the copied files."""

import json
import logging
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from typing import cast

import numpy as np

from chipmill.errors import SceneError
from chipmill.formats import layout
from chipmill.formats.copied import CopiedFile, CopiedScene, FileFacts
from chipmill.formats.grid_reading import Json
from chipmill.formats.item_reading import read_item
from chipmill.formats.item_writing import write_collection, write_item
from chipmill.formats.provenance import AssetRecord, decode_record
from chipmill.io.raster import Header, open_raster
from chipmill.io.store import Store
from chipmill.model.choice import Choice, FileBands, choose, fitting
from chipmill.model.extent import extent
from chipmill.model.footprint import pixel_metres
from chipmill.model.grid import Grid, ratio
from chipmill.model.radiometry import OffsetChoice
from chipmill.model.scene import Asset, SceneRef
from chipmill.model.sensor import Sensor
from chipmill.sensors import sensor
from chipmill.steps.offset import offset_evidence, refuse_unknown

log = logging.getLogger(__name__)


def rewrite_item(
    scene: SceneRef,
    archive: Store,
    *,
    bands: tuple[str, ...] = (),
    offset: OffsetChoice = "from evidence",
) -> str:
    """Write the archive's item of a scene whose assets are copied.

    Args:
        scene: A scene that `copy_assets` copied.
        archive: Where its files are, and where the item goes.
        bands: chipmill's band names; empty: all of the sensor's default.
        offset: What the user knows better than the evidence of the offset in the pixels.

    Returns:
        Key of the item.

    Raises:
        SceneError: An asset is not copied, is no raster that can be used, lies elsewhere than the
            item or does not align with the others; or the offset of its pixels cannot be told.
    """
    item = json.loads(archive.get(layout.source_item_key(scene.collection, scene.item)))
    copied = _copied(scene, item, bands=bands, archive=archive, offset=offset)
    written = write_item(copied, version=version("chipmill"))
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
    records = _records(scene, archive)
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


def aligned(choice: Choice, files: Mapping[str, FileFacts], *, where: str) -> Grid:
    """Give the finest grid of the data bands.

    Raises:
        SceneError: A file does not align with it; `where` names the scene.
    """
    data = (files[s.asset.key] for s in choice.bands if s.asset.key in files)
    finest = min((file.grid for file in data), key=lambda grid: max(grid.pixel))
    for key, file in files.items():
        ratio(file.grid, fine=finest, where=f"{key} and the finest band of {where}")
    return finest


def facts_of(header: Header, asset: Asset, kind: Sensor, *, is_quality: bool) -> FileFacts:
    """Take what a file says; what it does not, the item or the sensor's table may.

    The table's nodata value is of data files; what a quality band has for nodata is in its rule.
    """
    has_alpha = header.alpha is not None
    stated = next((band.nodata for band in asset.bands if band.nodata is not None), None)
    tabled = kind.nodata_of(header.nodata, masked=header.masked, alpha=has_alpha)
    said = (header.nodata, stated, None if is_quality else tabled)
    _, south, _, north = extent(header.grid)
    return FileFacts(
        grid=header.grid,
        bands=FileBands(header.bands, header.alpha),
        dtype=header.dtype,
        header_nodata=header.nodata,
        nodata=next((n for n in said if n is not None and _fits(n, header.dtype)), None),
        resolution=pixel_metres(header.grid, latitude=(south + north) / 2),
    )


def _fits(value: float, dtype: str) -> bool:
    """Tell whether a pixel of this type can have a value."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return True
    limits = np.iinfo(kind)
    return bool(limits.min <= value <= limits.max and value == int(value))


def _records(scene: SceneRef, archive: Store) -> dict[str, AssetRecord]:
    key = layout.provenance_key(scene.collection, scene.item)
    return decode_record(archive.get(key), where=archive.href(key)).assets


def _file(
    asset: Asset, record: AssetRecord | None, archive: Store, kind: Sensor, *, is_quality: bool
) -> CopiedFile:
    if record is None:
        raise SceneError(f"asset {asset.key!r} is not in the archive yet; copy the scene first")
    with open_raster(archive, record.key) as raster:
        facts = facts_of(raster.header, asset, kind, is_quality=is_quality)
    said = {each.name: getattr(facts, each.name) for each in fields(facts)}
    return CopiedFile(href=archive.href(record.key), record=record, **said)
