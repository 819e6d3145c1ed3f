"""Read a STAC item of any version from 0.7 to 1.1 into a `Scene`."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import cast

from chipmill.errors import SceneError
from chipmill.formats.asset_reading import CLASSIFICATION, read_asset, text
from chipmill.formats.grid_reading import Json, finite
from chipmill.formats.pack import middle
from chipmill.model.scene import BBox, Scene

__all__ = ["CLASSIFICATION", "Json", "parse_time", "read_item", "rfc3339"]

_HALF = 180
_POLE = 90
_FAR = 360
"""Degrees of longitude: some catalogues go on past 180 where a scene crosses the antimeridian."""
_DEEPEST = 64
"""Levels of nesting. A multipolygon in a geometry in an item has 7; more is made to break."""
BROKEN = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
"""What reading a field of another type than STAC has it comes to."""


def read_item(item: Json) -> Scene:
    """Parse an item.

    Raises:
        SceneError: It has no id, no time, an asset without an href, or a field of a type that STAC
            does not have there; or a bbox that is no place on earth.
    """
    try:
        if _is_too_deep(item):
            raise SceneError(
                "an item that nests deeper than any STAC item is not read; leave it out"
            )
        return _read(item)
    except BROKEN as err:
        name = cast("object", item.get("id")) if isinstance(item, dict) else item
        raise SceneError(
            f"{repr(name)[:80]} is no STAC item that can be read ({type(err).__name__}: {err}); "
            "leave it out"
        ) from err


def _is_too_deep(item: object) -> bool:
    """Tell by going down level by level: recursion is what such an item breaks."""
    level = [item]
    for _ in range(_DEEPEST):
        level = [below for each in level for below in _below(each)]
        if not level:
            return False
    return True


def _below(value: object) -> Iterable[object]:
    match value:
        case dict():
            return cast("dict[str, object]", value).values()
        case list():
            return cast("list[object]", value)
        case _:
            return ()


def _read(item: Json) -> Scene:
    name = item.get("id")
    if not isinstance(name, str) or not name or not name.isprintable():
        raise SceneError("an item without an id cannot be used; leave it out")
    properties = cast("Json", item.get("properties") or {})
    cloud = properties.get("eo:cloud_cover")
    return Scene(
        id=name,
        collection=text(item.get("collection")),
        datetime=_time(name, properties),
        bbox=_box(name, item.get("bbox")),
        platform=_platform(properties),
        cloud_cover=finite(cloud),
        assets=tuple(
            read_asset(name, key, raw, properties)
            for key, raw in cast("Mapping[str, Json]", item.get("assets") or {}).items()
        ),
    )


def parse_time(name: str, said: object) -> datetime:
    """Read a time of the item `name`, in UTC; without a zone it is UTC.

    Raises:
        SceneError: It is no time.
    """
    try:
        time = datetime.fromisoformat(str(said))
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # in the first and the last hours that there are
        raise SceneError(
            f"{name} has the time {str(said)[:80]!r}, which is not RFC 3339; leave it out"
        ) from None


def rfc3339(time: datetime) -> str:
    """Write a UTC time in full."""
    return time.isoformat().replace("+00:00", "Z")


def _time(name: str, properties: Json) -> datetime:
    if properties.get("datetime"):
        return parse_time(name, properties["datetime"])
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if not start or not end:
        raise SceneError(f"{name} has neither a datetime nor a start and an end; leave it out")
    return middle(parse_time(name, start), parse_time(name, end))


def _box(name: str, said: object) -> BBox | None:
    """Give west, south, east, north of a box of 4 or 6 numbers."""
    if said is None:
        return None
    box = cast("list[object]", said) if isinstance(said, list) else []
    if len(box) not in (4, 6):
        raise SceneError(f"{name} has a bbox of {len(box)} numbers, not 4 or 6; leave it out")
    half = len(box) // 2
    corners = [finite(box[at]) for at in (0, 1, half, half + 1)]
    match corners:
        case [float(west), float(south), float(east), float(north)] if (
            abs(west) <= _FAR >= abs(east) and -_POLE <= south <= north <= _POLE
        ):
            if east - west >= _FAR:
                return -float(_HALF), south, float(_HALF), north
            return _turned(west), south, _turned(east), north
        case _:
            raise SceneError(f"{name} has the bbox {box}, which is no place on earth; leave it out")


def _turned(longitude: float) -> float:
    """Bring a longitude that goes on past 180 back onto the earth."""
    if -_HALF <= longitude <= _HALF:
        return longitude
    return longitude - _FAR if longitude > 0 else longitude + _FAR


def _platform(properties: Json) -> str | None:
    platform = text(properties.get("platform")) or text(properties.get("eo:platform"))
    return platform.lower().replace("_", "-") if platform else None
