"""Write the static STAC 1.1.0 item of a scene in the archive: true of the copied files.

Extensions: projection 2.0, eo 2.0, raster 2.0, file 2.1, processing 1.2, alternate-assets 1.2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from chipmill.formats import layout
from chipmill.formats.item_reading import Json, parse_time
from chipmill.formats.multihash import encode_multihash
from chipmill.formats.provenance import AssetRecord
from chipmill.formats.signature import without_signature
from chipmill.model.choice import BandSource, Choice
from chipmill.model.grid import Grid
from chipmill.model.scene import Asset, Scene
from chipmill.model.sensor import Sensor

_SCHEMAS = "https://stac-extensions.github.io"
EXTENSIONS = (
    f"{_SCHEMAS}/projection/v2.0.0/schema.json",
    f"{_SCHEMAS}/eo/v2.0.0/schema.json",
    f"{_SCHEMAS}/raster/v2.0.0/schema.json",
    f"{_SCHEMAS}/file/v2.1.0/schema.json",
    f"{_SCHEMAS}/processing/v1.2.0/schema.json",
)
ALTERNATE = "https://stac-extensions.github.io/alternate-assets/v1.2.0/schema.json"
_OURS = ("projection", "eo", "raster", "file", "processing", "alternate-assets", "storage")
_DROPPED = ("proj:", "eo:bands", "eo:platform", "eo:instrument", "eo:gsd", "storage:")
"""Properties that describe the provider's files, or are of a form that STAC has left."""

MASK_ROLE = "data-mask"
"""STAC's role of an asset that says which pixels are valid: how the quality band is found again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFile:
    """What is known of a copied file."""

    href: str
    record: AssetRecord
    grid: Grid
    bands: int
    """How many the file has."""
    dtype: str
    nodata: float | None
    resolution: float
    """Pixel size in metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedScene:
    """All that an item of the archive is made of."""

    item: Json
    """The provider's item, as it came."""
    scene: Scene
    """The same, parsed."""
    sensor: Sensor
    choice: Choice
    """The assets that were copied."""
    files: Mapping[str, CopiedFile]
    """By the key of the asset."""

    @property
    def properties(self) -> Json:
        """The properties of the provider's item."""
        return cast("Json", self.item.get("properties") or {})


def write_item(copied: CopiedScene, *, version: str) -> dict[str, Any]:
    """Build the archive's STAC 1.1.0 item of a scene as JSON; `version` is chipmill's."""
    item, scene = copied.item, copied.scene
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [*EXTENSIONS, ALTERNATE, *_kept_extensions(item)],
        "id": scene.id,
        "collection": copied.sensor.name,
        "geometry": item.get("geometry"),
        "bbox": item["bbox"],
        "properties": _properties(copied, version),
        "links": _links(copied),
        "assets": {asset.key: _asset(copied, asset) for asset in copied.choice.assets},
    }


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


def _kept_extensions(item: Json) -> list[str]:
    given = cast("list[str]", item.get("stac_extensions") or [])
    return [
        url
        for url in given
        if url.startswith("https://") and not any(f"/{name}/" in url for name in _OURS)
    ]


def _properties(copied: CopiedScene, version: str) -> dict[str, Any]:
    given, scene, bands = copied.properties, copied.scene, copied.choice.bands
    kept = {key: value for key, value in given.items() if not key.startswith(_DROPPED)}
    for name in ("datetime", "start_datetime", "end_datetime"):
        if given.get(name):  # some catalogues write a space for the T, or a date alone
            kept[name] = rfc3339(parse_time(scene.id, given[name]))
    if scene.platform:
        kept["platform"] = scene.platform
    software = cast("Json", given.get("processing:software") or {})
    kept["processing:software"] = {**software, "chipmill": version}
    kept["gsd"] = min(copied.files[source.asset.key].resolution for source in bands)
    # The two names of the origin specification; by band, in digital numbers.
    kept["normalization_average"] = {s.band.name: s.band.mean for s in bands}
    kept["normalization_standard_deviation"] = {s.band.name: s.band.std for s in bands}
    if disagreements := _disagreements(copied):
        kept["chipmill:findings"] = disagreements
    return kept


def rfc3339(time: datetime) -> str:
    """Write a UTC time in full."""
    return time.isoformat().replace("+00:00", "Z")


def _disagreements(copied: CopiedScene) -> list[str]:
    """Say where the provider's item and the file differ; the file is right."""
    found: list[str] = []
    for asset in copied.choice.assets:
        raw = cast("Json", copied.item["assets"][asset.key])
        said = raw.get("proj:shape") or copied.properties.get("proj:shape")
        grid = copied.files[asset.key].grid
        if said and list(said) != [grid.height, grid.width]:
            found.append(
                f"{asset.key}: the item says {said[0]} x {said[1]} px, "
                f"the file has {grid.height} x {grid.width}"
            )
    return found


def _links(copied: CopiedScene) -> list[dict[str, Any]]:
    given = cast("list[dict[str, Any]]", copied.item.get("links") or [])
    origin = [
        {"rel": "derived_from", "href": link["href"], "type": "application/geo+json"}
        for link in given
        if link.get("rel") == "self" and str(link.get("href", "")).startswith(("https:", "http:"))
    ]
    kept = (link for link in given if link.get("rel") in ("license", "cite-as"))
    # STAC asks for this link wherever an item names its collection.
    collection = f"../{layout.collection_key(copied.sensor.name).rpartition('/')[2]}"
    ours = {"rel": "collection", "href": collection, "type": "application/json"}
    return [ours, *origin, *kept]


def _asset(copied: CopiedScene, asset: Asset) -> dict[str, Any]:
    file = copied.files[asset.key]
    raw = cast("Json", copied.item["assets"][asset.key])
    sources = [source for source in copied.choice.bands if source.asset.key == asset.key]
    written: dict[str, Any] = {
        "href": file.href,
        "type": "image/tiff; application=geotiff",
        "roles": ["data"] if sources else [MASK_ROLE],
        "proj:shape": [file.grid.height, file.grid.width],
        "proj:transform": list(file.grid.transform),
        **_crs(file.grid),
        "file:size": file.record.size,
        "file:checksum": encode_multihash(file.record.checksum),
        "data_type": file.dtype,
        "raster:spatial_resolution": file.resolution,
        "alternate": {"source": {"href": without_signature(asset.href)}},
    }
    if not sources:
        written |= asset.quality
    if raw.get("title"):
        written["title"] = raw["title"]
    if file.nodata is not None:
        written["nodata"] = "nan" if math.isnan(file.nodata) else file.nodata
    if sources:
        written["bands"] = [_band(copied, source) for source in sources]
    return written


def _crs(grid: Grid) -> dict[str, Any]:
    if grid.crs.startswith("EPSG:"):
        return {"proj:code": grid.crs}
    return {"proj:code": None, "proj:wkt2": grid.crs}


def _band(copied: CopiedScene, source: BandSource) -> dict[str, Any]:
    band, sensor = source.band, copied.sensor
    written: dict[str, Any] = {"name": band.name, "chipmill:index": source.index}
    if band.common_name:
        written["eo:common_name"] = band.common_name
    if spectral := sensor.spectral(band, copied.scene.platform):
        written["eo:center_wavelength"] = spectral.wavelength
        written["eo:full_width_half_max"] = spectral.fwhm
    said = dict(enumerate(source.asset.bands, start=1)).get(source.index)
    scale = said.scale if said and said.scale is not None else sensor.scale
    offset = said.offset if said and said.offset is not None else sensor.offset
    if sensor.offset_flag and copied.properties.get(sensor.offset_flag) is True:
        offset = 0.0
    written["raster:scale"] = scale
    written["raster:offset"] = offset
    return written
