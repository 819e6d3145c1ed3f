"""Write the static STAC 1.1.0 item of a scene in the archive: true of the copied files."""

import math
from collections.abc import Mapping
from typing import Any, cast

from shapely.errors import ShapelyError
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from chipmill.errors import SceneError
from chipmill.formats import layout
from chipmill.formats.asset_writing import MASK_ROLE, source_schemes, write_asset
from chipmill.formats.copied import CopiedFile, CopiedScene
from chipmill.formats.disagreement import disagreements, is_sloppy
from chipmill.formats.grid_reading import Json
from chipmill.formats.item_outline import read_outline
from chipmill.formats.item_reading import BROKEN, parse_time, rfc3339
from chipmill.formats.signature import without_signature
from chipmill.model.extent import shape_of
from chipmill.model.sensor import Sensor

__all__ = ["MASK_ROLE", "CopiedFile", "CopiedScene", "rfc3339", "write_collection", "write_item"]

_SCHEMAS = "https://stac-extensions.github.io"
EXTENSIONS = tuple(
    f"{_SCHEMAS}/{name}/schema.json"
    for name in (
        "projection/v2.0.0",
        "eo/v2.0.0",
        "raster/v2.0.0",
        "file/v2.1.0",
        "processing/v1.2.0",
        "alternate-assets/v1.2.0",
    )
)
"""Of these radar has no field of eo, which must not be named then."""
STORAGE = f"{_SCHEMAS}/storage/v2.0.0/schema.json"
_OURS = ("projection", "eo", "raster", "file", "processing", "alternate-assets", "storage")
_DROPPED = ("proj:", "eo:", "raster:", "file:", "storage:", "auth:", "alternate", "chipmill:")
"""Properties that describe the provider's files and store, or are of a form that STAC has left."""
_STILL = ("eo:cloud_cover", "eo:snow_cover")
"""The two fields of a whole scene that the eo extension still has."""
_MOVED = {
    "eo:off_nadir": "view:off_nadir",
    "eo:azimuth": "view:azimuth",
    "eo:sun_azimuth": "view:sun_azimuth",
    "eo:sun_elevation": "view:sun_elevation",
}
"""Fields of STAC 0.7 by the name that they have had since 0.9."""
VIEW = f"{_SCHEMAS}/view/v1.0.0/schema.json"
_PREFIXES = {"scientific": "sci:", "sentinel-2": "s2:", "timestamps": ("published", "expires")}
"""Of extensions whose fields do not begin with their name."""
_TIMES = (
    "datetime",
    "start_datetime",
    "end_datetime",
    "created",
    "updated",
    "published",
    "expires",
    "processing:datetime",
)


def write_item(copied: CopiedScene, *, version: str) -> dict[str, Any]:
    """Build the archive's STAC 1.1.0 item of a scene as JSON; `version` is chipmill's.

    Raises:
        SceneError: The item lies where none of its files is, a time of it is none, or a field is of
            a type that STAC does not have there.
    """
    try:
        return _written(copied, version)
    except BROKEN as err:
        raise SceneError(
            f"{copied.scene.id} has a field that STAC has otherwise ({type(err).__name__}: {err}); "
            "leave it out"
        ) from err


def _written(copied: CopiedScene, version: str) -> dict[str, Any]:
    scene = copied.scene
    properties = _properties(copied, version)
    assets = {asset.key: write_asset(copied, asset) for asset in copied.choice.assets}
    written = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            *_extensions(assets, properties),
            *_kept_extensions(copied, properties),
        ],
        "id": scene.id,
        "collection": copied.sensor.name,
        **_footprint(copied),
        "properties": properties,
        "links": _links(copied),
        "assets": assets,
    }
    return cast("dict[str, Any]", _clean(written))


def write_collection(sensor: Sensor) -> dict[str, Any]:
    """Build the STAC 1.1.0 collection that the items of a sensor belong to, as JSON."""
    everywhere = {"spatial": {"bbox": [[-180, -90, 180, 90]]}}
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": sensor.name,
        "title": sensor.title,
        "description": f"Scenes of {sensor.title} in this archive.",
        "license": "other",
        "extent": {**everywhere, "temporal": {"interval": [[None, None]]}},
        "links": [],
    }


def _footprint(copied: CopiedScene) -> dict[str, Any]:
    """Keep the provider's geometry, which knows the empty corners; where it is none, the files'."""
    given = cast("dict[str, Any]", copied.item.get("geometry"))
    outline = _outline(copied.item)
    if is_sloppy(copied.scene.bbox, files=copied.extent) or outline is None:
        return {"geometry": mapping(shape_of(copied.extent)), "bbox": list(copied.extent)}
    # What is not divided at the antimeridian, though it crosses it, is no GeoJSON.
    geometry = given if outline == shape(given) else mapping(outline)
    return {"geometry": geometry, "bbox": list(copied.scene.bbox or copied.extent)}


def _outline(item: Json) -> BaseGeometry | None:
    try:
        outline = read_outline(item)
    except (*BROKEN, ShapelyError):
        return None
    return None if outline is None or outline.is_empty else outline


def _extensions(assets: Json, properties: Json) -> list[str]:
    """List chipmill's own: an extension may be named only where it has a field."""
    bands = [band for asset in assets.values() for band in (asset, *asset.get("bands", ()))]
    spectral = any(field.startswith("eo:") for place in (properties, *bands) for field in place)
    own = [url for url in EXTENSIONS if spectral or "/eo/" not in url]
    return [*own, *([STORAGE] if "storage:schemes" in properties else [])]


def _kept_extensions(copied: CopiedScene, properties: Json) -> list[str]:
    """List the provider's whose fields are kept, in the order of its item."""
    quality = copied.choice.quality.quality if copied.choice.quality else ()
    given = cast("list[object]", copied.item.get("stac_extensions") or [])
    urls = [url for url in given if isinstance(url, str) and url.startswith("https://")]
    if any(old in copied.properties for old in _MOVED):
        urls.append(VIEW)
    return list(dict.fromkeys(url for url in urls if _is_used(url, [*properties, *quality])))


def _is_used(url: str, fields: list[str]) -> bool:
    """Tell whether an extension has fields left: the name is the part of its URL before `/v1…`."""
    name = url.removesuffix("/schema.json").rpartition("/v")[0].rpartition("/")[2]
    name = name.removesuffix("-extension")
    prefix = _PREFIXES.get(name, f"{name}:")
    return name not in _OURS and any(field.startswith(prefix) for field in fields)


def _properties(copied: CopiedScene, version: str) -> dict[str, Any]:
    given, scene, bands = copied.properties, copied.scene, copied.choice.bands
    kept = {
        key: value for key, value in given.items() if key in _STILL or not key.startswith(_DROPPED)
    }
    kept |= {now: given[old] for old, now in _MOVED.items() if old in given}
    for name in _TIMES:
        if given.get(name):  # some catalogues write a space for the T, or a date alone
            kept[name] = rfc3339(parse_time(scene.id, given[name]))
    if scene.platform:
        kept["platform"] = scene.platform
    kept |= _processing(copied, version)
    kept["gsd"] = min(copied.files[source.asset.key].resolution for source in bands)
    # The two names of the origin specification; by band, in the sensor's domain.
    kept["normalization_average"] = {s.band.name: s.band.mean for s in bands}
    kept["normalization_standard_deviation"] = {s.band.name: s.band.std for s in bands}
    if schemes := source_schemes(copied):
        kept["storage:schemes"] = schemes
    if copied.offset:
        kept["chipmill:offset"] = copied.offset.to_json()
    found = disagreements(
        scene, copied.choice, copied.files, extent=copied.extent, offset=copied.offset
    )
    if found:
        kept["chipmill:findings"] = found
    return kept


def _processing(copied: CopiedScene, version: str) -> dict[str, Any]:
    """Say that chipmill had its hand in it; what the provider says of its own stays."""
    given = copied.properties
    software = given.get("processing:software")
    made = cast("dict[str, Any]", software if isinstance(software, dict) else {})
    said: dict[str, Any] = {
        "processing:software": {**{name: str(of) for name, of in made.items()}, "chipmill": version}
    }
    if copied.offset and copied.offset.baseline:
        said["processing:version"] = copied.offset.baseline
    if not given.get("processing:datetime"):
        last = max(file.record.copied for file in copied.files.values())
        said["processing:datetime"] = rfc3339(last)
    return said


def _links(copied: CopiedScene) -> list[dict[str, Any]]:
    raw = copied.item.get("links")
    given = cast("list[object]", raw) if isinstance(raw, list) else []
    links = [cast("dict[str, Any]", link) for link in given if isinstance(link, dict)]
    links = [link for link in links if _is_address(link.get("href"))]
    itself = [link["href"] for link in links if link.get("rel") == "self"]
    origin = [
        {"rel": rel, "href": href, "type": "application/geo+json"}
        for href in itself[:1]
        for rel in ("derived_from", "via")
    ]
    kept = [_plain(link) for link in links if link.get("rel") in ("license", "cite-as")]
    # STAC asks for this link wherever an item names its collection.
    collection = f"../{layout.collection_key(copied.sensor.name).rpartition('/')[2]}"
    ours = {"rel": "collection", "href": collection, "type": "application/json"}
    return [ours, *origin, *kept]


def _is_address(href: object) -> bool:
    """Tell an address from a path of the provider's machine, which leads nowhere."""
    return isinstance(href, str) and href.startswith(("https:", "http:"))


def _plain(link: Mapping[str, Any]) -> dict[str, Any]:
    return {name: link[name] for name in ("rel", "href", "type", "title") if link.get(name)}


def _clean(value: object) -> object:
    """Leave no signature in any text and no number that JSON does not have."""
    match value:
        case dict():
            items = cast("Mapping[str, object]", value).items()
            return {key: _clean(each) for key, each in items}
        case list() | tuple():
            return [_clean(each) for each in cast("list[object]", value)]
        case str():
            return without_signature(value) if "?" in value or "@" in value else value
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
