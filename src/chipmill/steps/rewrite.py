"""rewrite: a static STAC item that is true of the copied files."""

import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from typing import cast

import numpy as np

from chipmill.errors import SceneError
from chipmill.formats import layout
from chipmill.formats.copied import CopiedFile, CopiedScene
from chipmill.formats.grid_reading import Json
from chipmill.formats.item_reading import read_item
from chipmill.formats.item_writing import write_collection, write_item
from chipmill.formats.provenance import AssetRecord, decode_record
from chipmill.io.raster import Header, open_raster
from chipmill.io.store import Store
from chipmill.model.choice import Choice, choose
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
    kind = sensor(scene.collection)
    item = json.loads(archive.get(layout.source_item_key(scene.collection, scene.item)))
    copied = _copied(scene, item, kind, bands=bands, archive=archive, offset=offset)
    written = write_item(copied, version=version("chipmill"))
    if findings := written["properties"].get("chipmill:findings"):
        log.warning("%s: its files differ from its item and win: %s", scene, "; ".join(findings))
    collection = layout.collection_key(scene.collection)
    if archive.size(collection) is None:
        archive.put(collection, json.dumps(write_collection(kind), indent=1).encode())
    key = layout.item_key(scene.collection, scene.item)
    archive.put(key, json.dumps(written, indent=1, allow_nan=False).encode())
    return key


def _copied(
    scene: SceneRef,
    item: Json,
    kind: Sensor,
    *,
    bands: tuple[str, ...],
    archive: Store,
    offset: OffsetChoice,
) -> CopiedScene:
    """Gather what the item is made of, and refuse what cannot be one scene."""
    parsed = read_item(item)
    choice = choose(parsed, kind, bands=bands)
    records = _records(scene, archive)
    files = {
        asset.key: _file(asset, choice, records, archive=archive, kind=kind)
        for asset in choice.assets
    }
    _check(scene, choice, files)
    finest = _aligned(scene, choice, files)
    evidence = None
    if kind.offset_rule:
        evidence = offset_evidence(
            kind.offset_rule,
            cast("Json", item.get("properties") or {}),
            choice=choice,
            keys={key: file.record.key for key, file in files.items()},
            archive=archive,
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


def _check(scene: SceneRef, choice: Choice, files: Mapping[str, CopiedFile]) -> None:
    """Refuse bands that the files do not have."""
    for source in choice.bands:
        count = files[source.asset.key].bands
        if source.index > count:
            raise SceneError(
                f"band {source.band.name!r} of {scene} should be number {source.index} of asset "
                f"{source.asset.key!r}, which has {count} bands; leave the band or the scene out"
            )


def _aligned(scene: SceneRef, choice: Choice, files: Mapping[str, CopiedFile]) -> Grid:
    """Give the finest grid of the data bands; refuse files that do not align with it."""
    finest = min(
        (files[source.asset.key] for source in choice.bands), key=lambda file: max(file.grid.pixel)
    )
    for key, file in files.items():
        ratio(file.grid, fine=finest.grid, where=f"{key} and the finest band of {scene}")
    return finest.grid


def _records(scene: SceneRef, archive: Store) -> dict[str, AssetRecord]:
    key = layout.provenance_key(scene.collection, scene.item)
    return decode_record(archive.get(key), where=archive.href(key)).assets


def _file(
    asset: Asset,
    choice: Choice,
    records: Mapping[str, AssetRecord],
    *,
    archive: Store,
    kind: Sensor,
) -> CopiedFile:
    record = records.get(asset.key)
    if record is None:
        raise SceneError(f"asset {asset.key!r} is not in the archive yet; copy the scene first")
    with open_raster(archive, record.key) as raster:
        header = raster.header
    _, south, _, north = extent(header.grid)
    return CopiedFile(
        href=archive.href(record.key),
        record=record,
        grid=header.grid,
        bands=header.bands,
        dtype=header.dtype,
        header_nodata=header.nodata,
        nodata=_nodata(asset, header, kind=None if asset == choice.quality else kind),
        resolution=pixel_metres(header.grid, latitude=(south + north) / 2),
    )


def _nodata(asset: Asset, header: Header, *, kind: Sensor | None) -> float | None:
    """Give the header's nodata value, else the item's, else the table's: one that pixels can have.

    The table's is of data files; what a quality band has for nodata is in its rule.
    """
    stated = next((band.nodata for band in asset.bands if band.nodata is not None), None)
    for value in (header.nodata, stated, kind.nodata if kind else None):
        if value is not None and _fits(value, header.dtype):
            return value
    return None


def _fits(value: float, dtype: str) -> bool:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return True
    limits = np.iinfo(kind)
    return bool(limits.min <= value <= limits.max and value == int(value))
