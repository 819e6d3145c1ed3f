"""survey: what the files of a scene say of themselves, read where they lie."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast
from urllib.parse import urljoin

from chipmill.errors import RequestError, SceneError
from chipmill.formats.archived_item import read_archived
from chipmill.formats.copied import FileFacts
from chipmill.formats.item_reading import Json, read_item
from chipmill.io.place import place_of
from chipmill.model.archived import ArchivedBand, ArchivedFile, ArchivedScene
from chipmill.model.choice import BandSource, choose
from chipmill.model.extent import extent
from chipmill.model.scene import Asset, Scene, SceneRef
from chipmill.model.sensor import Sensor
from chipmill.sensors import sensor, sensors
from chipmill.steps.facts import aligned, facts_of
from chipmill.url import store_url

if TYPE_CHECKING:
    from chipmill.io.raster import Header

AT_ONCE = 8
"""Headers that are read side by side."""


def read_document(href: str) -> Json:
    """Read a STAC item from a path or a URL; hrefs of its assets become absolute.

    Raises:
        SceneError: It is no item.
        StoreError: It cannot be read.
    """
    # Its clients of HTTP and S3 take 30 MB; what is indexed in an archive needs none.
    from chipmill.io.source import open_source  # noqa: PLC0415

    url = store_url(href)
    with open_source(url) as source:
        raw = b"".join(source.pieces)
    try:
        item = json.loads(raw)
        assets = {
            key: {**asset, "href": _joined(url, asset["href"])}
            for key, asset in item["assets"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise SceneError(f"{href} is not a STAC item ({err!r}); name an item's document") from err
    return {**item, "assets": assets}


def survey(item: Json, *, kind: Sensor, bands: tuple[str, ...] = ()) -> ArchivedScene:
    """Learn of a scene what indexing needs, from its item and the headers of its files.

    Args:
        item: An item of the archive, or a provider's; hrefs are absolute.
        kind: The scene's sensor.
        bands: chipmill's names of the bands of a provider's item; empty: the sensor's default.

    Returns:
        The scene as if it lay in an archive; the keys of its files are their hrefs.

    Raises:
        SceneError: The item lacks a file, or a file is no raster that can be used.
        MissingError: A file is not there.
        TransientError: A store did not answer.
    """
    if is_ours(item):
        return read_archived(item, key_of=str)
    scene = read_item(item)
    choice = choose(scene, kind, bands=bands)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        headers = pool.map(_header, choice.assets)
        by_key = dict(zip((asset.key for asset in choice.assets), headers, strict=True))
    facts = {
        asset.key: facts_of(by_key[asset.key], asset, kind, is_quality=asset == choice.quality)
        for asset in choice.assets
    }
    files = {asset.key: _file(asset, facts[asset.key]) for asset in choice.assets}
    return ArchivedScene(
        ref=SceneRef(collection=kind.name, item=scene.id),
        datetime=scene.datetime,
        bbox=scene.bbox or extent(aligned(choice, facts, where=scene.id)),
        platform=scene.platform,
        bands=tuple(
            _band(source, scene, kind, files[source.asset.key], facts[source.asset.key].resolution)
            for source in choice.bands
        ),
        quality=files[choice.quality.key] if choice.quality else None,
    )


def is_ours(item: Json) -> bool:
    """Tell an item that chipmill rewrote from a provider's."""
    software = cast("Json", item.get("properties") or {}).get("processing:software")
    return isinstance(software, dict) and "chipmill" in software


def sensor_of(item: Json, name: str | None) -> Sensor:
    """Find the sensor of an item: the named one, else the one that has the item's collection.

    Raises:
        RequestError: There is none of this name, or of this collection.
    """
    if name:
        return sensor(name)
    collection = item.get("collection")
    for kind in sensors().values():
        if collection in (kind.name, *kind.collections):
            return kind
    raise RequestError(
        f"no sensor has the collection {collection!r} of {item.get('id')}; name one of "
        f"{', '.join(sorted(sensors()))}"
    )


def _joined(base: str, href: str) -> str:
    """Join as `urljoin` does, also where it does not know the scheme, as s3."""
    if "://" in href:
        return href
    scheme, _, rest = base.partition("://")
    return scheme + urljoin(f"https://{rest}", href).removeprefix("https")


def _header(asset: Asset) -> "Header":
    # GDAL takes 37 MB and a third of a second to load; what is indexed in an archive needs none.
    from chipmill.io.raster import read_header  # noqa: PLC0415

    return read_header(*place_of(asset.href))


def _file(asset: Asset, facts: FileFacts) -> ArchivedFile:
    return ArchivedFile(
        key=asset.href,
        grid=facts.grid,
        dtype=facts.dtype,
        nodata=facts.nodata,
        flags=asset.quality,
    )


def _band(
    source: BandSource,
    scene: Scene,
    kind: Sensor,
    file: ArchivedFile,
    resolution: float,
) -> ArchivedBand:
    band = source.band
    spectral = kind.spectral(band, scene.platform)
    return ArchivedBand(
        name=band.name,
        common_name=band.common_name,
        file=file,
        index=source.index,
        gsd=resolution,
        wavelength=spectral.wavelength if spectral else None,
        fwhm=spectral.fwhm if spectral else None,
        scale=kind.scale,
        offset=kind.offset,
        mean=band.mean,
        std=band.std,
    )
