"""index: count the cloudy and the empty pixels of every chip of a scene, exactly."""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from chipmill.errors import MissingError, SceneError
from chipmill.formats import layout
from chipmill.formats.archived_item import read_archived
from chipmill.formats.chip_index import ChipColumns, IndexedScene, encode_part, read_part
from chipmill.formats.item_reading import Json
from chipmill.io.place import Place
from chipmill.io.store import Store
from chipmill.model.archived import ArchivedScene
from chipmill.model.chip_shape import band_shapes
from chipmill.model.footprint import boxes, lonlat_corners, polygons
from chipmill.model.grid import ChipGrid
from chipmill.model.quality import QualityRule, told_by
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensor
from chipmill.steps.count import Shares, count_chips

log = logging.getLogger(__name__)

LATER = "normalization_"
"""Begin of the properties that are written into an item when its chips are counted already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What indexing one scene did."""

    scene: SceneRef
    chips: int
    remainder: float
    """Share of the scene's pixels that belong to no chip."""
    fresh: bool
    """False: the part was there already, from the same inputs."""


def index_chips(
    scene: SceneRef,
    archive: Store,
    *,
    chip_size: int = 256,
    cloud_classes: tuple[str, ...] = (),
) -> Indexed:
    """Count cloud and nodata of each chip and write the scene's part of the index.

    Args:
        scene: A scene whose item is rewritten.
        archive: Where it lies.
        chip_size: Edge of a chip in pixels of the scene's finest grid.
        cloud_classes: Flags of the quality band that count as cloud; empty: the sensor's.

    Raises:
        SceneError: The scene is smaller than a chip, its files do not align, one is damaged, or the
            quality band is not what the sensor reads.
        RequestError: The sensor has no such flag.
    """
    raw = archive.get(layout.item_key(scene.collection, scene.item))
    item = json.loads(raw)
    archived = read_archived(item, key_of=archive.key_of)
    rule = _rule(archived, cloud_classes)
    inputs = _inputs(item, rule, chip_size)
    key = layout.part_key(chip_size, scene.collection, scene.item)
    with suppress(MissingError):
        known, _ = read_part(archive.get(key), where=archive.href(key))
        if known.inputs == inputs:
            return _indexed(scene, known, fresh=False)
    chips = ChipGrid(grid=archived.finest.file.grid, size=chip_size)
    shares = count_chips(
        archived,
        chips,
        rule=rule,
        alpha=sensor(scene.collection).alpha,
        place=lambda key: Place(archive, key),
    )
    described, data = encode_part(
        _describe(archived, chips, assets=item["assets"], inputs=inputs),
        _columns(chips, shares),
    )
    archive.put(key, data)
    log.info("%s: %d chips indexed", scene, chips.rows * chips.cols)
    return _indexed(scene, described, fresh=True)


def _rule(scene: ArchivedScene, cloud: tuple[str, ...]) -> QualityRule | None:
    """Give the sensor's rule, with the flags where the item says they are."""
    rule = sensor(scene.ref.collection).quality
    if rule is None:
        return None
    if scene.quality is None:
        raise SceneError(f"the archived item of {scene.ref} has no quality file; rewrite it")
    told, _ = told_by(rule, scene.quality.flags)
    return told.counting(cloud)


def _inputs(item: Json, rule: QualityRule | None, chip_size: int) -> str:
    """Name all that a part depends on: the item but for what is written into it later, the rule."""
    properties = {
        name: value for name, value in item["properties"].items() if not name.startswith(LATER)
    }
    said = json.dumps({**item, "properties": properties}, sort_keys=True)
    return hashlib.sha256(f"{said}{rule!r}{chip_size}".encode()).hexdigest()


def _indexed(scene: SceneRef, part: IndexedScene, *, fresh: bool) -> Indexed:
    return Indexed(scene=scene, chips=part.rows * part.cols, remainder=part.remainder, fresh=fresh)


def _describe(
    scene: ArchivedScene, chips: ChipGrid, *, assets: Mapping[str, Json], inputs: str
) -> IndexedScene:
    return IndexedScene(
        collection=scene.ref.collection,
        item=scene.ref.item,
        item_key=layout.item_key(scene.ref.collection, scene.ref.item),
        datetime=scene.datetime,
        platform=scene.platform,
        gsd=scene.finest.gsd,
        bands=tuple(band.name for band in scene.bands),
        chip_size=chips.size,
        rows=chips.rows,
        cols=chips.cols,
        chip_bytes=sum(
            shape[0] * shape[1] * np.dtype(band.file.dtype).itemsize
            for band, shape in zip(scene.bands, band_shapes(scene, chips), strict=True)
        ),
        remainder=chips.remainder,
        assets=json.dumps(assets),
        checksums=tuple(sorted(asset["file:checksum"] for asset in assets.values())),
        inputs=inputs,
    )


def _columns(chips: ChipGrid, shares: Shares) -> ChipColumns:
    corners = lonlat_corners(chips)
    return ChipColumns(
        cloud_fraction=shares.cloud.reshape(-1),
        nodata_fraction=shares.nodata.reshape(-1),
        boxes=boxes(corners),
        polygons=polygons(corners),
    )
