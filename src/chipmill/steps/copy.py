"""copy: the chosen assets of a scene into the archive, verified and recorded."""

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import stamina

from chipmill.errors import MissingError, SceneError, StoreError, TransientError
from chipmill.formats import layout
from chipmill.formats.item_reading import read_item, without_signature
from chipmill.formats.multihash import Digests, decode_multihash
from chipmill.formats.provenance import AssetRecord, SceneRecord, decode_record
from chipmill.io.raster import is_geotiff, is_jpeg2000, transcode
from chipmill.io.source import Source, open_source
from chipmill.io.store import PART_BYTES, Store
from chipmill.model.choice import choose
from chipmill.model.scene import Asset, SceneRef
from chipmill.sensors import sensor

log = logging.getLogger(__name__)

TRIES = 4
"""A provider that is busy is asked again, after 1, 2 and 4 seconds on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What copying one scene did."""

    scene: SceneRef
    copied: int
    """Assets that were copied now."""
    skipped: int
    """Assets that were there already."""
    size: int
    """Bytes that were written now."""


def copy_assets(
    scene: SceneRef, archive: Store, *, bands: tuple[str, ...] = (), at_once: int = 8
) -> Copied:
    """Copy the assets of a scene that its sensor uses; what is there already is left alone.

    Args:
        scene: A scene that `search_scenes` found.
        archive: Where the assets go.
        bands: chipmill's band names; empty: all of the sensor.
        at_once: Assets that are copied side by side.

    Raises:
        SceneError: An asset is not in the item, not at the provider, or not what its checksum says.
        TransientError: The provider did not answer, several times.
    """
    kind = sensor(scene.collection)
    item = json.loads(archive.get(layout.source_item_key(scene.collection, scene.item)))
    assets = choose(read_item(item), kind, bands=bands).assets
    record = _record(scene, archive)
    missing = [asset for asset in assets if not _is_there(asset, record, archive)]
    done = dict(record.assets)
    with ThreadPoolExecutor(at_once) as pool:
        copies = [pool.submit(_copy_asset, scene, asset, archive) for asset in missing]
        try:
            for copy in as_completed(copies):
                new = copy.result()
                done[new.asset] = new
                # Written after each asset: what is interrupted goes on at the next one.
                archive.put(
                    layout.provenance_key(scene.collection, scene.item),
                    SceneRecord(assets=done).encode(),
                )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    copied = [done[asset.key] for asset in missing]
    size = sum(record.size for record in copied)
    log.info(
        "%s: %d assets copied (%.1f MB), %d there",
        scene,
        len(copied),
        size / 1e6,
        len(assets) - len(copied),
    )
    return Copied(scene=scene, copied=len(copied), skipped=len(assets) - len(copied), size=size)


def _record(scene: SceneRef, archive: Store) -> SceneRecord:
    key = layout.provenance_key(scene.collection, scene.item)
    with suppress(MissingError):
        return decode_record(archive.get(key), where=archive.href(key))
    return SceneRecord()


def _is_there(asset: Asset, record: SceneRecord, archive: Store) -> bool:
    """Tell whether the archive holds the asset as it was recorded, from the same href."""
    known = record.assets.get(asset.key)
    return (
        known is not None
        and known.source == without_signature(asset.href)
        and archive.size(known.key) == known.size
    )


@stamina.retry(on=TransientError, attempts=TRIES, wait_initial=1, wait_max=30)
def _copy_asset(scene: SceneRef, asset: Asset, archive: Store) -> AssetRecord:
    key = layout.asset_key(scene.collection, scene.item, asset.key)
    try:
        with open_source(asset.href) as source:
            given, kept, verified = _transfer(scene, asset, source, archive)
    except MissingError as err:
        raise SceneError(
            f"asset {asset.key!r} of {scene} is missing at its source: {err}; is the catalogue "
            "newer than the files? drop the scene"
        ) from err
    if archive.size(key) != kept.size:
        raise TransientError(
            f"{archive.href(key)} has {archive.size(key)} bytes instead of {kept.size}; "
            "it is copied again"
        )
    return AssetRecord(
        asset=asset.key,
        source=without_signature(asset.href),
        key=key,
        size=kept.size,
        sha256=kept.hex("sha256"),
        md5=kept.hex("md5"),
        source_size=given.size,
        source_sha256=given.hex("sha256"),
        verified=verified,
        copied=datetime.now(UTC),
        version=version("chipmill"),
    )


def _transfer(
    scene: SceneRef, asset: Asset, source: Source, archive: Store
) -> tuple[Digests, Digests, str]:
    """Move the bytes: gives the digests of what came and of what is kept, and the check."""
    checksum = decode_multihash(asset.checksum) if asset.checksum else None
    given = Digests(*([checksum.algorithm] if checksum else []))
    key = layout.asset_key(scene.collection, scene.item, asset.key)

    def verified(pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass the bytes on and refuse their end when they are not what was promised."""
        yield from given.of(pieces)
        if source.size is not None and given.size != source.size:
            raise TransientError(
                f"{without_signature(asset.href)} ended after {given.size} of {source.size} bytes; "
                "it is fetched again"
            )
        if checksum and given.hex(checksum.algorithm) != checksum.digest:
            raise SceneError(
                f"asset {asset.key!r} of {scene} has the {checksum.algorithm} "
                f"{given.hex(checksum.algorithm)}, its item says {checksum.digest}; drop the scene"
            )

    head = next(source.pieces, b"")
    pieces = verified(chain((head,), source.pieces))
    how = "checksum" if checksum else "size" if source.size is not None else "none"
    if is_geotiff(head):
        archive.write(key, pieces)
        return given, given, how
    if is_jpeg2000(head):
        return given, _transcoded(asset, pieces, archive, key), how
    raise SceneError(
        f"asset {asset.key!r} of {scene} begins with {head[:8]!r}: neither TIFF nor JPEG 2000; "
        "drop the scene"
    )


def _transcoded(asset: Asset, pieces: Iterable[bytes], archive: Store, key: str) -> Digests:
    """Keep a JPEG 2000 file as a tiled GeoTIFF: chips of it are read many times."""
    with tempfile.TemporaryDirectory(prefix="chipmill-") as folder:
        given, made = Path(folder, "given.jp2"), Path(folder, "made.tif")
        with given.open("wb") as file:
            file.writelines(pieces)
        # Some files have their georeference in a side-car of this name. A bucket that may not be
        # listed answers 403, not 404, for what it does not have.
        with suppress(StoreError), open_source(_beside(asset.href)) as sidecar:
            Path(folder, "given.jp2.aux.xml").write_bytes(b"".join(sidecar.pieces))
        transcode(given, made)
        kept = Digests()
        with made.open("rb") as file:
            archive.write(key, kept.of(iter(lambda: file.read(PART_BYTES), b"")))
        return kept


def _beside(href: str) -> str:
    """Name the side-car of a file; a query stays behind its name."""
    parts = urlsplit(href)
    return urlunsplit(parts._replace(path=f"{parts.path}.aux.xml"))
