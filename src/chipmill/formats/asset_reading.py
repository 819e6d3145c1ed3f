"""Read the assets of an item: files, bands and places, in the forms from STAC 0.7 to 1.1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import cast

from chipmill.errors import SceneError
from chipmill.formats.grid_reading import Json, finite, read_grid
from chipmill.model.scene import Alternate, Asset, AssetBand

CLASSIFICATION = ("classification:bitfields", "classification:classes")
"""Fields of an asset that say what the values of a quality band mean."""
_NOTHING: Json = {}
_NANOMETRES = 100
"""A wavelength above it is not in micrometres: the longest thermal band lies below 20."""
_NOT_OF_THE_GRID = {"metadata", "thumbnail", "overview"}
"""Roles of assets that the item's grid is not of."""


def read_asset(name: str, key: str, raw: Json, properties: Json) -> Asset:
    """Parse an asset of the item `name`.

    Raises:
        SceneError: It has no href, or its key or href has letters that no text can show.
    """
    href = raw.get("href")
    if not isinstance(href, str) or not href:
        raise SceneError(f"asset {key!r} of {name} has no href; leave the scene out")
    if not (key.isprintable() and href.isprintable()):
        raise SceneError(f"asset {key!r} of {name} cannot be named or fetched; leave the scene out")
    asset = Asset(
        key=key,
        href=href,
        media_type=text(raw.get("type")),
        roles=tuple(str(role) for role in raw.get("roles") or ()),
        gsd=_gsd(raw),
        bands=_bands(raw, properties),
        size=_size(raw.get("file:size")),
        checksum=_checksum(raw),
        requester_pays=_requester_pays(raw, properties),
        alternates=_alternates(raw, properties),
        quality=_quality(raw),
    )
    inherits = asset.is_raster and not asset.is_picture and not {*asset.roles} & _NOT_OF_THE_GRID
    return replace(asset, grid=read_grid(raw, properties, inherits=inherits))


def text(value: object) -> str | None:
    """Take text; None: it is none."""
    return value if isinstance(value, str) else None


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _gsd(raw: Json) -> float | None:
    """Read the pixel size of a file, in the places where catalogues state it."""
    listed = cast("list[object]", [*(raw.get("raster:bands") or ()), *(raw.get("eo:bands") or ())])
    for said in (raw, *(cast("Json", each) for each in listed if isinstance(each, dict))):
        for name in ("raster:spatial_resolution", "spatial_resolution", "gsd"):
            if number := finite(said.get(name)):
                return number
    return None


def _quality(raw: Json) -> Json:
    """Find what the values mean on the asset, else on its first band, where STAC 1.0 has it too."""
    places = [raw, *(raw.get("bands") or ())[:1], *(raw.get("raster:bands") or ())[:1]]
    return {
        name: next(place[name] for place in places if name in place)
        for name in CLASSIFICATION
        if any(name in place for place in places)
    }


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
    checksum = text(raw.get("file:checksum")) or text(raw.get("checksum:multihash"))
    return checksum.lower() if checksum else None


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
    return tuple(
        _band(e, {**raw, **e, **r}) for e, r in zip_longest(eo, raster, fillvalue=_NOTHING)
    )


def _band(named: Json, said: Json) -> AssetBand:
    """Parse a band; `said` is what holds for it, what its asset says for all bands included."""

    def of(field: str, prefix: str) -> object:
        return said.get(f"{prefix}:{field}", said.get(field))

    return AssetBand(
        name=text(named.get("name")),
        common_name=text(of("common_name", "eo")),
        scale=finite(of("scale", "raster")),
        offset=finite(of("offset", "raster")),
        wavelength=_micrometres(of("center_wavelength", "eo")),
        fwhm=_micrometres(of("full_width_half_max", "eo")),
        dtype=text(said.get("data_type")),
        nodata=_nodata(said.get("nodata")),
        resolution=finite(of("spatial_resolution", "raster")),
    )


def _micrometres(value: object) -> float | None:
    number = finite(value)
    return number / 1000 if number and number > _NANOMETRES else number


def _nodata(value: object) -> float | None:
    """Read a number; JSON has no NaN and no infinity, so STAC writes them as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    if isinstance(value, float) and not math.isfinite(value):
        return value
    return finite(value)
