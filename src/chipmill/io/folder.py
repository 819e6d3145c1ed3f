"""A folder of GeoTIFFs without STAC: an item for each file, made from its header."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import shapely
from obstore import exceptions as obx

from chipmill.errors import CatalogError, ChipmillError, SceneError
from chipmill.io.raster import BandLabel, open_raster
from chipmill.io.store import SCHEMES, Store
from chipmill.model.outline import outline

log = logging.getLogger(__name__)

DATETIME_FROM = "chipmill:datetime_from"
"""Property of an item that says where its time is from: `tag`, `name` or `modified`."""
_SUFFIXES = (".tif", ".tiff")
_MASK = ".msk"
"""Ending of a mask beside a file, which would be lost: only the file itself is copied."""
_COMMON = {"red", "green", "blue", "nir"}
_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])"
    r"(?:[-_]?[T ][-_]?([01]\d|2[0-3])[-_:]?([0-5]\d)[-_:]?([0-5]\d))?(?!\d)"
)
"""A date in a file's name, with a time behind it or none."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a folder."""

    key: str
    size: int
    """Bytes."""
    written: datetime


def is_folder(url: str) -> bool:
    """Tell whether a URL names a folder: a local one, or a prefix of a bucket with a slash."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).is_dir()
    return parts.scheme in SCHEMES and url.endswith("/")


def folder_items(url: str) -> Iterator[dict[str, Any]]:
    """Make a STAC 1.1.0 item of each GeoTIFF below a folder, in the order of their names.

    The id is the path below the folder without its ending. The time is that of the file's tag, else
    a date in its name, else when the file was last written; the property `chipmill:datetime_from`
    says which. A file that cannot be placed on earth is left out with a warning.

    Raises:
        CatalogError: There is no GeoTIFF, or the folder cannot be listed.
    """
    store = Store.open(url)
    listed = list(_listed(store))
    beside = {each.key for each in listed if each.key.lower().endswith(_MASK)}
    found = sorted((each for each in listed if each.key not in beside), key=lambda each: each.key)
    if not found:
        raise CatalogError(
            f"there is no GeoTIFF ({', '.join(_SUFFIXES)}) below {url}; name a folder that has "
            "some, or the file of a catalogue"
        )
    stems = Counter(_stem(each.key) for each in found)
    left_out: list[str] = []
    for each in found:
        name = _stem(each.key) if stems[_stem(each.key)] == 1 else each.key
        try:
            yield _item(store, each, name=name, masked=each.key + _MASK in beside)
        except SceneError as err:
            left_out.append(str(err))
            log.warning("%s is left out: %s", each.key, err)
    if len(left_out) == len(found):
        raise CatalogError(f"no GeoTIFF below {url} can be used: {left_out[0]}")


def _stem(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _listed(store: Store) -> Iterator[_File]:
    """List the files of a folder that count."""
    try:
        for page in store.objects.list():
            for entry in page:
                name = entry["path"].rpartition("/")[2]
                if name.lower().endswith((*_SUFFIXES, _MASK)) and not name.startswith("."):
                    yield _File(entry["path"], entry["size"], entry["last_modified"])
    except (ChipmillError, OSError, obx.BaseError) as err:
        raise CatalogError(f"the folder {store.url} cannot be listed ({err})") from err


def _item(store: Store, file: _File, *, name: str, masked: bool) -> dict[str, Any]:
    if masked:
        raise SceneError(f"{file.key} has its mask in a file of its own; put it inside")
    with open_raster(store, file.key) as raster:
        header = raster.header
        shape, box = outline(header.grid)
        time, source = _time(raster.tag("TIFFTAG_DATETIME"), name, file.written)
        labels = raster.labels()
    image = {
        "href": f"{store.url}/{quote(file.key)}",
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        "file:size": file.size,
        "proj:shape": [header.grid.height, header.grid.width],
        "data_type": header.dtype,
        "bands": [_band(label, number) for number, label in enumerate(labels, start=1)],
    }
    said = {"datetime": time.isoformat().replace("+00:00", "Z"), DATETIME_FROM: source}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name,
        "geometry": json.loads(shapely.to_geojson(shape)),
        "bbox": list(box),
        "properties": said,
        "links": [],
        "assets": {"image": image},
    }


def _time(tag: str | None, name: str, written: datetime) -> tuple[datetime, str]:
    for text, source in ((tag or "", "tag"), (name, "name")):
        # TIFF writes 2023:08:15 10:20:30; a zone is not said, so it is taken for UTC.
        for found in _DATE.finditer(re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text)):
            try:
                return datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC), source
            except ValueError:  # the 31st of a month that has 30
                continue
    return written.astimezone(UTC), "modified"


def _band(label: BandLabel, number: int) -> dict[str, Any]:
    name = "alpha" if label.colour == "alpha" else label.name or f"b{number}"
    said: dict[str, Any] = {"name": name, "raster:scale": label.scale}
    said["raster:offset"] = label.offset
    if label.colour in _COMMON:
        said["eo:common_name"] = label.colour
    if label.wavelength:
        said["eo:center_wavelength"] = label.wavelength
    if label.fwhm:
        said["eo:full_width_half_max"] = label.fwhm
    return said
