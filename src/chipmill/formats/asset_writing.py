"""Write the assets of an archived item: true of the copied files, band by band.

Fields of projection 2.0, eo 2.0, raster 2.0, file 2.1, alternate-assets 1.2 and storage 2.0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from chipmill.formats.copied import CopiedFile, CopiedScene
from chipmill.formats.grid_reading import Json
from chipmill.formats.item_reading import rfc3339
from chipmill.formats.multihash import XXH3, Checksum, encode_multihash
from chipmill.formats.provenance import AssetRecord
from chipmill.formats.signature import without_signature
from chipmill.model.choice import BandSource
from chipmill.model.grid import Grid
from chipmill.model.radiometry import OffsetEvidence
from chipmill.model.scene import Asset, AssetBand
from chipmill.model.sensor import Sensor

MASK_ROLE = "data-mask"
"""STAC's role of an asset that says which pixels are valid: how the quality band is found again."""
_OF_A_BAND = ("name", "chipmill:index", "statistics")
"""What no asset can say for all its bands."""


def write_asset(copied: CopiedScene, asset: Asset) -> dict[str, Any]:
    """Build an asset as JSON."""
    file, raw = copied.files[asset.key], copied.raw_asset(asset.key)
    sources = [source for source in copied.choice.bands if source.asset.key == asset.key]
    written: dict[str, Any] = {
        "href": file.href,
        "type": "image/tiff; application=geotiff",
        "roles": ["data"] if sources else [MASK_ROLE],
        "created": rfc3339(file.record.copied),
        **_place(file),
        "file:size": file.record.size,
        "file:checksum": encode_multihash(file.record.checksum),
        **_quick(file.record),
        "data_type": file.dtype,
        "raster:spatial_resolution": file.resolution,
        "alternate": {"source": _source(copied, asset)},
    }
    if not sources:
        written |= asset.quality
    if isinstance(raw.get("title"), str) and raw["title"]:
        written["title"] = raw["title"]
    if file.nodata is not None:
        written["nodata"] = _nodata(file.nodata)
    if sources:
        written |= _lifted([_band(copied, source) for source in sources])
    return written


def _quick(record: AssetRecord) -> dict[str, str]:
    """Give the digest by which staging proves the bytes, where it is known."""
    if record.xxh3 is None:
        return {}
    return {"chipmill:checksum": encode_multihash(Checksum(XXH3, record.xxh3))}


def _place(file: CopiedFile) -> dict[str, Any]:
    return {
        "proj:shape": [file.grid.height, file.grid.width],
        "proj:transform": list(file.grid.transform),
        **_crs(file.grid),
    }


def _crs(grid: Grid) -> dict[str, Any]:
    if grid.crs.startswith("EPSG:"):
        return {"proj:code": grid.crs}
    return {"proj:code": None, "proj:wkt2": grid.crs}


def _nodata(value: float) -> float | str:
    """JSON has no NaN and no infinity: STAC writes them as text."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return int(value) if value == int(value) else value


def _source(copied: CopiedScene, asset: Asset) -> dict[str, Any]:
    source: dict[str, Any] = {"href": without_signature(asset.href)}
    if name := _scheme_of(copied, asset):
        source["storage:refs"] = [name]
    return source


def source_schemes(copied: CopiedScene) -> dict[str, Any]:
    """Describe the buckets that the provider's files are in, as far as the item tells."""
    return {
        name: _scheme(copied, asset)
        for asset in copied.choice.assets
        if (name := _scheme_of(copied, asset))
    }


def _scheme_of(copied: CopiedScene, asset: Asset) -> str | None:
    """Name the scheme of a source: its bucket, where the item says whose store it is in."""
    parts = urlsplit(without_signature(asset.href))
    known = parts.scheme == "s3" and _scheme(copied, asset)
    return parts.netloc if known and parts.netloc else None


def _scheme(copied: CopiedScene, asset: Asset) -> dict[str, Any]:
    """Take the scheme of storage 2 that the asset names, or make it of the fields of storage 1."""
    raw, properties = copied.raw_asset(asset.key), copied.properties
    schemes = cast("Mapping[str, Json]", properties.get("storage:schemes") or {})
    for ref in cast("Sequence[str]", raw.get("storage:refs") or ()):
        if ref in schemes:
            return dict(schemes[ref])
    platform = raw.get("storage:platform", properties.get("storage:platform"))
    region = raw.get("storage:region", properties.get("storage:region"))
    if platform != "AWS" or not isinstance(region, str):
        return {}
    return {
        "type": "aws-s3",
        "platform": "https://{bucket}.s3.{region}.amazonaws.com",
        "bucket": urlsplit(asset.href).netloc,
        "region": region,
        "requester_pays": asset.requester_pays,
    }


def _lifted(bands: list[dict[str, Any]]) -> dict[str, Any]:
    """Say on the asset what is equal in all of several bands (STAC 1.1, best practices)."""
    first, *others = bands
    equal = {
        name: value
        for name, value in first.items()
        if others
        and name not in _OF_A_BAND
        and all(name in band and band[name] == value for band in others)
    }
    own = [{name: band[name] for name in band if name not in equal} for band in bands]
    return {**equal, "bands": own}


def _band(copied: CopiedScene, source: BandSource) -> dict[str, Any]:
    """Build a band."""
    band = source.band
    written: dict[str, Any] = {"name": band.name, "chipmill:index": source.index}
    if band.common_name:
        written["eo:common_name"] = band.common_name
    if spectral := copied.sensor.spectral(band, copied.scene.platform):
        written["eo:center_wavelength"] = spectral.wavelength
        written["eo:full_width_half_max"] = spectral.fwhm
    scale, offset = scaling(copied.sensor, source, offset=copied.offset)
    written["raster:scale"] = scale
    written["raster:offset"] = offset
    if found := copied.statistics.get(source.asset.key, {}).get(source.index):
        written["statistics"] = found
    return written


def scaling(
    sensor: Sensor, source: BandSource, *, offset: OffsetEvidence | None
) -> tuple[float, float]:
    """Give scale and offset of a band: the item's, else the sensor's; true of these bytes."""
    said = dict(enumerate(source.asset.bands, start=1)).get(source.index, AssetBand())
    scale = sensor.scale if said.scale is None else said.scale
    if sensor.offset_rule and offset:
        return scale, 0.0 if offset.verdict == "applied" else -sensor.offset_rule.added * scale
    return scale, sensor.offset if said.offset is None else said.offset
