"""Read a STAC item of any version from 0.7 to 1.1 into a `Scene`."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, cast

from chipmill.errors import SceneError
from chipmill.formats.pack import middle
from chipmill.model.scene import Alternate, Asset, AssetBand, BBox, Scene

Json = Mapping[str, Any]
"""A JSON object as it came; its values are checked where they are used."""

_NOTHING: Json = {}
FAR = 360
"""Degrees of longitude: some catalogues go on past 180 where a scene crosses the antimeridian."""
_POLE = 90
_NANOMETRES = 100
"""A wavelength above it is not in micrometres: the longest thermal band lies below 20."""
CLASSIFICATION = ("classification:bitfields", "classification:classes")
"""Fields of an asset that say what the values of a quality band mean."""


_BROKEN = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
"""What reading a field of another type than STAC has it comes to."""


def read_item(item: Json) -> Scene:
    """Parse an item.

    Raises:
        SceneError: It has no id, no time, no bbox, an asset without an href, or a field of a type
            that STAC does not have there.
    """
    try:
        return _read(item)
    except _BROKEN as err:
        name = cast("object", item.get("id")) if isinstance(item, dict) else item
        raise SceneError(
            f"{str(name)[:80]!r} is no STAC item that can be read ({type(err).__name__}: {err}); "
            "leave it out"
        ) from err


def _read(item: Json) -> Scene:
    name = item.get("id")
    if not isinstance(name, str) or not name:
        raise SceneError("an item without an id cannot be used; leave it out")
    properties = cast("Json", item.get("properties") or {})
    box = item.get("bbox")
    if not isinstance(box, list):
        raise SceneError(f"{name} has no bbox; leave it out")
    cloud = properties.get("eo:cloud_cover")
    return Scene(
        id=name,
        collection=_text(item.get("collection")),
        datetime=_time(name, properties),
        bbox=_flat_box(name, cast("list[float]", box)),
        platform=_platform(properties),
        cloud_cover=None if cloud is None else float(cloud),
        assets=tuple(
            _asset(name, key, raw, properties)
            for key, raw in cast("Mapping[str, Json]", item.get("assets") or {}).items()
        ),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def parse_time(name: str, text: object) -> datetime:
    """Read a time of the item `name`, in UTC; without a zone it is UTC.

    Raises:
        SceneError: It is no time.
    """
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        raise SceneError(f"{name} has the time {text!r}, which is not RFC 3339") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _time(name: str, properties: Json) -> datetime:
    if properties.get("datetime"):
        return parse_time(name, properties["datetime"])
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if not start or not end:
        raise SceneError(f"{name} has neither a datetime nor a start and an end; leave it out")
    return middle(parse_time(name, start), parse_time(name, end))


def _flat_box(name: str, box: list[float]) -> BBox:
    """Give west, south, east, north of a box of 4 or 6 numbers."""
    if len(box) not in (4, 6):
        raise SceneError(f"{name} has a bbox of {len(box)} numbers, not 4 or 6; leave it out")
    half = len(box) // 2
    west, south, east, north = (float(box[at]) for at in (0, 1, half, half + 1))
    if not (abs(west) <= FAR >= abs(east) and -_POLE <= south <= north <= _POLE):
        raise SceneError(f"{name} has the bbox {box}, which is no place on earth; leave it out")
    return west, south, east, north


def _platform(properties: Json) -> str | None:
    platform = properties.get("platform") or properties.get("eo:platform")
    return str(platform).lower().replace("_", "-") if platform else None


def _asset(name: str, key: str, raw: Json, properties: Json) -> Asset:
    href = raw.get("href")
    if not isinstance(href, str) or not href:
        raise SceneError(f"asset {key!r} of {name} has no href; leave the scene out")
    return Asset(
        key=key,
        href=href,
        media_type=_text(raw.get("type")),
        roles=tuple(str(role) for role in raw.get("roles") or ()),
        bands=_bands(raw, properties),
        size=_size(raw.get("file:size")),
        checksum=_checksum(raw),
        requester_pays=_requester_pays(raw, properties),
        alternates=_alternates(raw, properties),
        quality={name: raw[name] for name in CLASSIFICATION if name in raw},
    )


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _alternates(raw: Json, properties: Json) -> tuple[Alternate, ...]:
    given = cast("Mapping[str, Json]", raw.get("alternate") or {})
    return tuple(
        Alternate(
            href=str(other["href"]),
            requester_pays=_requester_pays({**raw, **other}, properties),
        )
        for other in given.values()
        if other.get("href")
    )


def _requester_pays(raw: Json, properties: Json) -> bool:
    """Read both forms of the storage extension: flat (1), and schemes that assets name (2)."""
    schemes = cast("Mapping[str, Json]", properties.get("storage:schemes") or {})
    refs = cast("Sequence[str]", raw.get("storage:refs") or ())
    said = [raw, properties, *(schemes[ref] for ref in refs if ref in schemes)]
    return any(each.get("storage:requester_pays") or each.get("requester_pays") for each in said)


def _checksum(raw: Json) -> str | None:
    checksum = raw.get("file:checksum") or raw.get("checksum:multihash")
    return str(checksum).lower() if checksum else None


def _bands(raw: Json, properties: Json) -> tuple[AssetBand, ...]:
    """Merge `bands` (1.1), or `eo:bands` and `raster:bands` (1.0) by position.

    In STAC 1.1 what the asset says holds for each of its bands that does not say otherwise.
    STAC 0.7 lists the bands in the properties, and an asset has their positions.
    """
    if raw.get("bands"):
        return tuple(_band(band, {**raw, **band}) for band in cast("Sequence[Json]", raw["bands"]))
    eo = [
        cast("Json", properties["eo:bands"][band]) if isinstance(band, int) else band
        for band in cast("Sequence[Json | int]", raw.get("eo:bands") or ())
    ]
    raster = cast("Sequence[Json]", raw.get("raster:bands") or ())
    return tuple(_band(e, r) for e, r in zip_longest(eo, raster, fillvalue=_NOTHING))


def _band(eo: Json, raster: Json) -> AssetBand:
    return AssetBand(
        name=_text(eo.get("name")),
        common_name=_text(eo.get("common_name") or eo.get("eo:common_name")),
        scale=_number(raster.get("scale", raster.get("raster:scale"))),
        offset=_number(raster.get("offset", raster.get("raster:offset"))),
        wavelength=_micrometres(eo.get("center_wavelength", eo.get("eo:center_wavelength"))),
        fwhm=_micrometres(eo.get("full_width_half_max", eo.get("eo:full_width_half_max"))),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _micrometres(value: object) -> float | None:
    number = _number(value)
    return number / 1000 if number and number > _NANOMETRES else number
