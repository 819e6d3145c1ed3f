"""What a choice among scenes needs to know of an item, read from its properties."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from chipmill.errors import CatalogError
from chipmill.model.acquisition import Candidate, Version
from chipmill.model.scene import BBox

Json = Mapping[str, Any]
"""A JSON object as it came."""

_BASELINE = re.compile(r"_N\d\d\.\d\d$")
_LANDSAT = re.compile(r"L[COTEM]\d\d_L\w{3}_\d{6}_\d{8}_(\d{8})_\d\d_(?:RT|T1|T2)")
"""Product identifier of Landsat Collection 2 (LSDS-1618): the second date is that of processing."""


def read_candidate(item: Json, *, tile: str) -> Candidate:
    """Read an item.

    Args:
        item: With an id; all else may be missing but a time.
        tile: What the item was found for; empty: its own grid code.

    Raises:
        CatalogError: It has no time.
        AttributeError, KeyError, TypeError, ValueError, OverflowError: A field of it is of another
            type than STAC has it.
    """
    said = properties(item)
    name = str(item["id"])
    grid = grid_of(item)
    platform = said.get("platform") or said.get("eo:platform")
    time = said.get("datetime") or said.get("start_datetime")
    if not time:
        raise CatalogError("it has no time")
    found = Candidate(
        id=name,
        tile=tile or grid or "",
        time=read_time(time),
        bbox=bbox_of(item),
        cloud=percent(said, "eo:cloud_cover"),
        nodata=nodata_of(item),
        grid=grid,
        platform=str(platform).lower().replace("_", "-") if platform else None,
        datatake=_datatake(said),
        version=_version(name, said),
        updated=_stamp(said.get("updated")) or None,
        created=_stamp(said.get("created")) or None,
    )
    # JSON may hold text that is no Unicode, which no table can keep.
    " ".join(filter(None, (found.grid, found.platform, found.datatake))).encode()
    return found


def grid_of(item: Json) -> str | None:
    """Tell the grid code of a scene, also where a catalogue states its tile in an older way."""
    said = properties(item)
    if code := said.get("grid:code"):
        return str(code)
    if tile := said.get("s2:mgrs_tile"):
        return f"MGRS-{tile}"
    if "mgrs:grid_square" in said:
        zone, band = said.get("mgrs:utm_zone"), said.get("mgrs:latitude_band")
        return f"MGRS-{int(zone):02d}{band}{said['mgrs:grid_square']}" if zone and band else None
    if said.get("landsat:wrs_path") and said.get("landsat:wrs_row"):
        kind = said.get("landsat:wrs_type") or 2
        path, row = int(said["landsat:wrs_path"]), int(said["landsat:wrs_row"])
        return f"WRS{kind}-{path:03d}{row:03d}"
    if "modis:horizontal-tile" in said and "modis:vertical-tile" in said:
        across, down = int(said["modis:horizontal-tile"]), int(said["modis:vertical-tile"])
        return f"MSIN-{across:02d}{down:02d}"
    return None


def nodata_of(item: Json) -> float | None:
    """Tell the percentage of a scene that has no data, where the catalogue states it."""
    said = properties(item)
    stated = percent(said, "s2:nodata_pixel_percentage")
    counted = said.get("statistics")
    if stated is None and isinstance(counted, Mapping):
        return percent(cast("Json", counted), "nodata")
    return stated


def bbox_of(item: Json) -> BBox:
    """Give the box that an item states, as it states it; without one no place."""
    box = cast("Sequence[float]", item.get("bbox") or ())
    half = len(box) // 2
    if half not in (2, 3):
        return (0.0, 0.0, 0.0, 0.0)
    return float(box[0]), float(box[1]), float(box[half]), float(box[half + 1])


def percent(said: Json, name: str) -> float | None:
    """Read a number; what is none is not stated."""
    value = said.get(name)
    return float(value) if isinstance(value, int | float) and value == value else None  # noqa: PLR0124  NaN


def properties(item: Json) -> Json:
    """Give the properties of an item; there may be none.

    Raises:
        CatalogError: They are something else than an object.
    """
    said: object = item.get("properties") or {}
    if not isinstance(said, Mapping):
        raise CatalogError(f"its properties are a {type(said).__name__}, not an object")
    return cast("Json", said)


def read_time(text: object) -> datetime:
    """Read a time in UTC; without a zone it is UTC.

    Raises:
        CatalogError: It is no time.
    """
    try:
        time = datetime.fromisoformat(str(text))
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as err:  # in the first and the last hours that there are
        raise CatalogError(f"{str(text)[:80]!r} is not a time as RFC 3339 has it") from err


def _datatake(said: Json) -> str | None:
    if name := said.get("s2:datatake_id"):
        return _BASELINE.sub("", str(name))
    # CDSE and Sentinel-1 name no datatake; a satellite's orbit tells one from the next.
    orbit, start = said.get("sat:absolute_orbit"), said.get("start_datetime")
    return f"{said.get('platform', '')} {orbit} {start}".lower() if orbit and start else None


def _version(name: str, said: Json) -> Version:
    baseline = str(said.get("s2:processing_baseline") or said.get("processing:version") or "")
    processed = said.get("s2:generation_time") or said.get("processing:datetime")
    landsat = _LANDSAT.match(name)
    return (
        tuple(int(number) for number in re.findall(r"\d+", baseline)),
        _stamp(processed),
        landsat[1] if landsat else "",
        _stamp(said.get("updated") or said.get("created")),
    )


def _stamp(text: object) -> str:
    """Write a time so that text sorts as time does; what is no time is not stated."""
    try:
        return read_time(text).isoformat(timespec="microseconds") if text else ""
    except CatalogError:
        return ""
