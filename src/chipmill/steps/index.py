"""index: count the cloudy and the empty pixels of every chip of a scene, exactly."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from chipmill.errors import MissingError, SceneError, StoreError
from chipmill.formats import layout
from chipmill.formats.archived_item import read_archived
from chipmill.formats.chip_index import ChipColumns, IndexedScene, encode_part, read_part
from chipmill.formats.item_reading import Json
from chipmill.formats.signature import without_signature
from chipmill.io.place import Place, place_of
from chipmill.io.store import Store
from chipmill.model.archived import ArchivedScene
from chipmill.model.chip_shape import band_shapes
from chipmill.model.footprint import boxes, lonlat_corners, polygons, remainder_area
from chipmill.model.grid import ChipGrid
from chipmill.model.quality import QualityRule, told_by
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensor
from chipmill.steps.count import Shares, count_chips
from chipmill.steps.survey import read_document, sensor_of, survey

log = logging.getLogger(__name__)

PASSING = ("normalization_", "processing:datetime")
"""Begin of the properties that are no content of a scene: figures of a snapshot that are written in
when its chips are counted already, and when it was made. The same of an asset is `created`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What indexing one scene did."""

    scene: SceneRef
    chips: int
    remainder: float
    """Share of the scene's pixels that belong to no chip."""
    remainder_area: float | None
    """Their area in square metres; None: an older part does not say."""
    fresh: bool
    """False: the part was there already, from the same inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The chips of a scene that need not lie in an archive."""

    chips: ChipGrid
    shares: Shares
    scene: IndexedScene
    columns: ChipColumns


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
    item = json.loads(archive.get(layout.item_key(scene.collection, scene.item)))
    archived = read_archived(item, key_of=archive.key_of)
    rule = _rule(archived, cloud_classes)
    inputs = _inputs(item, rule, chip_size)
    key = layout.part_key(chip_size, scene.collection, scene.item)
    known = _known(archive, key)
    if known and known.inputs == inputs:
        return _indexed(scene, known, fresh=False)
    place = partial(Place, archive)
    chips, shares = _counted(archived, rule, chip_size=chip_size, place=place)
    described, data = encode_part(
        _describe(archived, chips, assets=_lasting(item["assets"]), inputs=inputs),
        _columns(chips, shares),
    )
    archive.put(key, data)
    log.info("%s: %d chips indexed", scene, chips.rows * chips.cols)
    return _indexed(scene, described, fresh=True)


def _known(archive: Store, key: str) -> IndexedScene | None:
    """Read what a part says of its scene; None: there is none, or none that can be read."""
    try:
        data = archive.get(key)
    except MissingError:
        return None
    try:
        return read_part(data, where=archive.href(key))[0]
    except StoreError as err:
        log.warning("%s", err)
        return None


def index_item(
    href: str,
    *,
    sensor_name: str | None = None,
    bands: tuple[str, ...] = (),
    chip_size: int = 256,
    cloud_classes: tuple[str, ...] = (),
) -> Counted:
    """Count cloud and nodata of each chip of a scene where its files lie; nothing is copied.

    Args:
        href: Path or URL of the scene's item: a provider's, or one of an archive.
        sensor_name: The scene's sensor; None: the one that has the item's collection.
        bands: chipmill's names of the bands of a provider's item; empty: the sensor's default.
        chip_size: Edge of a chip in pixels of the scene's finest grid.
        cloud_classes: Flags of the quality band that count as cloud; empty: the sensor's.

    Raises:
        SceneError: It is no item, or the scene cannot be indexed.
        RequestError: There is no such sensor or flag.
        StoreError: The item or a file cannot be read.
        TransientError: A store did not answer.
    """
    item = read_document(href)
    scene = survey(item, kind=sensor_of(item, sensor_name), bands=bands)
    rule = _rule(scene, cloud_classes)
    chips, shares = _counted(scene, rule, chip_size=chip_size, place=place_of)
    used = {band.file.key for band in scene.bands} | {scene.quality.key if scene.quality else ""}
    assets = {
        key: {**asset, "href": without_signature(asset["href"])}
        for key, asset in item["assets"].items()
        if asset["href"] in used
    }
    described = _describe(
        scene, chips, assets=assets, inputs=_inputs({**item, "assets": assets}, rule, chip_size)
    )
    return Counted(chips=chips, shares=shares, scene=described, columns=_columns(chips, shares))


def _counted(
    scene: ArchivedScene,
    rule: QualityRule | None,
    *,
    chip_size: int,
    place: Callable[[str], Place],
) -> tuple[ChipGrid, Shares]:
    chips = ChipGrid(grid=scene.finest.file.grid, size=chip_size)
    alpha = sensor(scene.ref.collection).alpha
    return chips, count_chips(scene, chips, rule=rule, alpha=alpha, place=place)


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
        name: value for name, value in item["properties"].items() if not name.startswith(PASSING)
    }
    lasting = {**item, "properties": properties, "assets": _lasting(item["assets"])}
    said = json.dumps(lasting, sort_keys=True)
    return hashlib.sha256(f"{said}{rule!r}{chip_size}".encode()).hexdigest()


def _lasting(assets: Mapping[str, Json]) -> dict[str, Json]:
    """Give assets without the time of their copy: the same bytes are the same scene."""
    return {
        key: {name: value for name, value in asset.items() if name != "created"}
        for key, asset in assets.items()
    }


def _indexed(scene: SceneRef, part: IndexedScene, *, fresh: bool) -> Indexed:
    return Indexed(
        scene=scene,
        chips=part.rows * part.cols,
        remainder=part.remainder,
        remainder_area=part.remainder_area,
        fresh=fresh,
    )


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
        remainder_area=remainder_area(chips),
        assets=json.dumps(assets),
        checksums=tuple(sorted(filter(None, (a.get("file:checksum") for a in assets.values())))),
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
