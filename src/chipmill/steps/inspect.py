"""inspect: what chipmill believes of a scene, before it is copied or after."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from chipmill.errors import ChipmillError, RequestError, SceneError
from chipmill.formats import layout
from chipmill.formats.asset_writing import scaling
from chipmill.formats.copied import FileFacts
from chipmill.formats.disagreement import disagreements
from chipmill.formats.grid_reading import Json
from chipmill.formats.item_reading import read_item, rfc3339
from chipmill.formats.signature import without_signature
from chipmill.io.catalog import Query, find_items
from chipmill.io.place import place_of
from chipmill.io.raster import open_raster
from chipmill.io.store import Store
from chipmill.model.choice import BandSource, Choice, choose
from chipmill.model.extent import extent
from chipmill.model.grid import ChipGrid, Grid, ratio
from chipmill.model.inspection import (
    CHIP_SIZES,
    Inspection,
    SeenBand,
    SeenChips,
    SeenFile,
    SeenQuality,
    places,
)
from chipmill.model.quality import told_by
from chipmill.model.radiometry import OffsetEvidence, judge
from chipmill.model.scene import Asset, Scene
from chipmill.model.sensor import Sensor
from chipmill.sensors import sensor, sensors
from chipmill.steps.facts import aligned, facts_of
from chipmill.steps.offset import stated_offset


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was read of a scene."""

    item: Json
    scene: Scene
    sensor: Sensor
    choice: Choice
    facts: Mapping[str, FileFacts]
    """Of the files whose headers could be read."""
    why_not: Mapping[str, str]
    """Of the others, the reason."""

    @property
    def properties(self) -> Json:
        return cast("Json", self.item.get("properties") or {})


def inspect_item(named: str, archive: Store, *, kind: str | None = None) -> Inspection:
    """Say what chipmill believes of a scene.

    Reads the item and the headers of its files where they can be reached; no pixels. Of a scene of
    the archive the evidence of the offset is what was found when it was rewritten.

    Args:
        named: Path or URL of an item, or `<collection>/<item>` of the archive.
        archive: The team's archive.
        kind: The sensor; None: the one whose collection the item is of.

    Raises:
        RequestError: It is no single item, or of no sensor that chipmill knows.
        CatalogError: There is no such item.
        SceneError: The item has no file that the sensor uses.
    """
    item = _document(named, archive)
    scene = read_item(item)
    chosen = sensor(kind) if kind else _sensor_of(scene)
    choice = choose(scene, chosen, bands=_there(scene, chosen))
    facts: dict[str, FileFacts] = {}
    why_not: dict[str, str] = {}
    for asset in choice.assets:
        try:
            with open_raster(*place_of(asset.href)) as raster:
                is_quality = asset == choice.quality
                facts[asset.key] = facts_of(raster.header, asset, chosen, is_quality=is_quality)
        except ChipmillError as err:
            why_not[asset.key] = str(err)
    return _inspection(
        _Seen(item=item, scene=scene, sensor=chosen, choice=choice, facts=facts, why_not=why_not)
    )


def _document(named: str, archive: Store) -> Json:
    """Find the item that is meant: in the archive, else a document that holds one."""
    collection, _, item = named.partition("/")
    if collection in sensors() and item:
        key = layout.item_key(collection, item)
        if archive.size(key) is not None:
            return json.loads(archive.get(key))
    found = list(islice(find_items(named, Query()), 2))
    if len(found) != 1:
        raise RequestError(
            f"{named} holds {'no item' if not found else 'several items'}; name the document of one"
        )
    return found[0]


def _sensor_of(scene: Scene) -> Sensor:
    known = (each for each in sensors().values() if scene.collection in each.collections)
    found = next(known, sensors().get(scene.collection or ""))
    if found is None:
        raise RequestError(
            f"{scene.id} is of the collection {scene.collection!r}, which no sensor is for; name "
            f"one of {', '.join(sorted(sensors()))} with --sensor"
        )
    return found


def _there(scene: Scene, kind: Sensor) -> list[str]:
    """Name the default bands that a scene has; an archive's has those that were asked for."""
    found: list[str] = []
    for band in kind.wanted(()):
        with suppress(SceneError):
            choose(scene, kind, bands=(band.name,))
            found.append(band.name)
    return found


def _inspection(seen: _Seen) -> Inspection:
    finest, problem = _finest(seen)
    offset = _offset(seen)
    if offset and offset.verdict == "cannot tell" and not problem:
        problem = "from the item alone it cannot be told whether the offset is in the pixels"
    findings, elsewhere = _findings(seen, finest, offset)
    return Inspection(
        item=seen.scene.id,
        sensor=seen.sensor.name,
        datetime=rfc3339(seen.scene.datetime),
        platform=seen.scene.platform,
        bbox=seen.scene.bbox,
        cloud_cover=seen.scene.cloud_cover,
        bands=tuple(_band(seen, source, offset) for source in seen.choice.bands),
        files=tuple(_file(seen, asset, finest) for asset in seen.choice.assets),
        chips=tuple(_chips(finest)) if finest else (),
        quality=_quality(seen),
        offset=offset.to_json() if offset else None,
        findings=tuple(findings),
        missing=tuple(
            band.name
            for band in seen.sensor.wanted(())
            if band.name not in {source.band.name for source in seen.choice.bands}
        ),
        problem=problem or elsewhere,
    )


def _finest(seen: _Seen) -> tuple[Grid | None, str | None]:
    """Give the grid that chips are cut on, as far as headers were read; else why there is none."""
    if not any(source.asset.key in seen.facts for source in seen.choice.bands):
        return None, None
    try:
        return aligned(seen.choice, seen.facts, where=seen.scene.id), None
    except SceneError as err:
        return None, str(err)


def _findings(
    seen: _Seen, finest: Grid | None, offset: OffsetEvidence | None
) -> tuple[list[str], str | None]:
    kept = cast("list[str]", seen.properties.get("chipmill:findings") or [])
    try:
        box = extent(finest) if finest else None
        found = disagreements(seen.scene, seen.choice, seen.facts, extent=box, offset=offset)
    except SceneError as err:
        return kept, str(err)
    return list(dict.fromkeys([*kept, *found])), None


def _offset(seen: _Seen) -> OffsetEvidence | None:
    """Give the evidence that the archive keeps, else what the item says without the pixels."""
    if seen.sensor.offset_rule is None:
        return None
    known = seen.properties.get("chipmill:offset")
    if isinstance(known, dict):
        return OffsetEvidence.from_json(cast("dict[str, Any]", known))
    stated = stated_offset(seen.choice)
    return judge(seen.sensor.offset_rule, seen.properties, stated=stated, darkest={})


def _band(seen: _Seen, source: BandSource, offset: OffsetEvidence | None) -> SeenBand:
    spectral = seen.sensor.spectral(source.band, seen.scene.platform)
    scale, added = scaling(seen.sensor, source, offset=offset)
    facts = seen.facts.get(source.asset.key)
    unknown = offset is not None and offset.verdict == "cannot tell"
    return SeenBand(
        name=source.band.name,
        common_name=source.band.common_name,
        asset=source.asset.key,
        index=source.index,
        wavelength=spectral.wavelength if spectral else None,
        fwhm=spectral.fwhm if spectral else None,
        gsd=facts.resolution if facts else source.asset.gsd or source.band.gsd or None,
        scale=scale,
        offset=None if unknown else added,
    )


def _file(seen: _Seen, asset: Asset, finest: Grid | None) -> SeenFile:
    facts, stated = seen.facts.get(asset.key), asset.grid
    listed = asset.bands[0] if asset.bands else None
    nodata = facts.nodata if facts else listed and listed.nodata
    return SeenFile(
        asset=asset.key,
        href=without_signature(asset.href),
        read=facts is not None,
        why_not=seen.why_not.get(asset.key),
        crs=facts.grid.crs if facts else stated.crs,
        shape=(facts.grid.height, facts.grid.width) if facts else stated.shape,
        transform=facts.grid.transform if facts else stated.transform,
        dtype=facts.dtype if facts else listed and listed.dtype,
        nodata=None if nodata is None else float(nodata),
        ratio=_ratio(facts.grid, finest) if facts and finest else None,
    )


def _ratio(grid: Grid, finest: Grid) -> tuple[float, float]:
    found = ratio(grid, fine=finest, where="files")
    return found.y, found.x


def _chips(finest: Grid) -> Iterable[SeenChips]:
    for size in CHIP_SIZES:
        if size <= min(finest.height, finest.width):
            chips = ChipGrid(grid=finest, size=size)
            yield SeenChips(size=size, rows=chips.rows, cols=chips.cols, remainder=chips.remainder)


def _quality(seen: _Seen) -> SeenQuality | None:
    asset, rule = seen.choice.quality, seen.sensor.quality
    if asset is None or rule is None:
        return None
    rule, differing = told_by(rule, asset.quality)
    return SeenQuality(
        asset=asset.key,
        nodata=places(rule, rule.nodata),
        cloud=places(rule, rule.cloud),
        differing=tuple(differing),
    )
