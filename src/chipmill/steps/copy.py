"""copy: the chosen assets of a scene into the archive, verified and recorded."""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime

import stamina

from chipmill.errors import (
    DamagedError,
    MissingError,
    SceneError,
    StoreError,
    TransientError,
)
from chipmill.formats import layout
from chipmill.formats.item_reading import read_item
from chipmill.formats.provenance import AssetRecord, this_version
from chipmill.formats.scene_list import item_digest
from chipmill.formats.signature import said, without_signature
from chipmill.io.records import read_records, write_record
from chipmill.io.shared import shared
from chipmill.io.source import again
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.choice import choose
from chipmill.model.places import Place, places
from chipmill.model.scene import Asset, SceneRef
from chipmill.sensors import sensor
from chipmill.settings import Settings
from chipmill.steps.copy_within import copy_within
from chipmill.steps.same_file import is_same_file
from chipmill.steps.transfer import Moved, fetch

log = logging.getLogger(__name__)

TRIES = 4
"""A provider that is busy is asked again, after 1, 2 and 4 seconds on average, or when it says."""


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
    scene: SceneRef,
    archive: Store,
    *,
    bands: tuple[str, ...] = (),
    at_once: int = 8,
    access: Access | None = None,
) -> Copied:
    """Copy the assets of a scene that its sensor uses; what is there already is left alone.

    Args:
        scene: A scene that `search_scenes` found.
        archive: Where the assets go.
        bands: chipmill's band names; empty: all of the sensor.
        at_once: Assets that this process copies side by side, of all scenes together.
        access: What may be reached; unless given, what the settings say.

    Raises:
        SceneError: An asset is not in the item, not at the provider, or not what its checksum says.
        TransientError: The provider did not answer, several times.
        StoreError: No place of an asset may be read.
    """
    rules = access or Access.of(Settings.load())
    kind = sensor(scene.collection)
    item = json.loads(archive.get(layout.source_item_key(scene.collection, scene.item)))
    assets = choose(read_item(item), kind, bands=bands).assets
    records = read_records(scene, archive, assets=[asset.key for asset in assets])
    there = {asset.key: _there(asset, records, archive) for asset in assets}
    copier = _Copier(scene, archive, rules, _slots(at_once), item_digest(item), there)
    doubtful = [asset for asset in assets if not copier.is_certain(asset)]
    sizes = [record.size for record in _side_by_side(copier, doubtful, at_once) if record]
    copied, size = len(sizes), sum(sizes)
    skipped = len(assets) - copied
    log.info("%s: %d assets copied (%.1f MB), %d there", scene, copied, size / 1e6, skipped)
    return Copied(scene=scene, copied=copied, skipped=skipped, size=size)


def _there(asset: Asset, records: Mapping[str, AssetRecord], archive: Store) -> AssetRecord | None:
    """Give the record of an asset that the archive holds as recorded, from one of its places.

    A provider may have put another file in the same place: then the item promises another one.
    """
    known = records.get(asset.key)
    sources = [asset.href, *(other.href for other in asset.alternates)]
    is_there = (
        known is not None
        and known.source in [without_signature(href) for href in sources]
        and known.is_as_promised(asset.size, asset.checksum)
        and archive.size(known.key) == known.size
    )
    return known if is_there else None


@shared
def _slots(at_once: int) -> threading.BoundedSemaphore:
    """Give this process's slots: tasks side by side share them, so memory stays bounded."""
    return threading.BoundedSemaphore(at_once)


def _side_by_side(
    copier: "_Copier", assets: Sequence[Asset], at_once: int
) -> list[AssetRecord | None]:
    with ThreadPoolExecutor(at_once) as pool:
        copies = [pool.submit(copier.copy, asset) for asset in assets]
        try:
            return [copy.result() for copy in as_completed(copies)]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@dataclass(frozen=True, slots=True)
class _Copier:
    """Copies assets of one scene."""

    scene: SceneRef
    archive: Store
    access: Access
    slots: threading.BoundedSemaphore
    document: str
    """Digest of what the item says."""
    there: Mapping[str, AssetRecord | None]

    def is_certain(self, asset: Asset) -> bool:
        """Tell whether what is there is what the item means: it promises so, or did not change."""
        known = self.there[asset.key]
        return known is not None and (
            known.document == self.document or known.can_tell(asset.size, asset.checksum)
        )

    def copy(self, asset: Asset) -> AssetRecord | None:
        """Copy an asset from the best of its places that works; None: it is there already."""
        known = self.there[asset.key]
        if known and self._is_same(asset, known):
            write_record(
                self.scene, self.archive, known.model_copy(update={"document": self.document})
            )
            return None
        key = layout.asset_key(self.scene.collection, self.scene.item, asset.key)
        with self.slots:
            place, moved = self._moved(asset, key)
        record = AssetRecord(
            asset=asset.key,
            source=without_signature(place.href),
            key=key,
            size=moved.kept.size,
            sha256=moved.kept.sha256,
            md5=moved.kept.md5,
            xxh3=moved.kept.xxh3,
            source_size=moved.given.size,
            source_sha256=moved.given.sha256,
            source_etag=moved.etag,
            source_modified=moved.modified,
            document=self.document,
            verified=moved.verified,
            copied=datetime.now(UTC),
            version=this_version(),
        )
        # Written once the bytes are proven: what is interrupted goes on at the next asset.
        write_record(self.scene, self.archive, record)
        return record

    def _is_same(self, asset: Asset, known: AssetRecord) -> bool:
        with self.slots:
            return any(
                is_same_file(place, known, self.access)
                for place in places(asset, archive=self.archive.url, access=self.access)
                if without_signature(place.href) == known.source
            )

    def _moved(self, asset: Asset, key: str) -> tuple[Place, Moved]:
        *better, last = places(asset, archive=self.archive.url, access=self.access)
        for place in better:
            try:
                return place, self._from(place, asset, key)
            except (StoreError, TransientError) as err:
                log.warning("%s: %s; the next place is tried", self.scene, err)
        try:
            return last, self._from(last, asset, key)
        except MissingError as err:
            raise SceneError(
                f"asset {asset.key!r} of {self.scene} is missing at its source: {err}; is the "
                "catalogue newer than the files? drop the scene"
            ) from err
        except DamagedError as err:
            raise SceneError(f"asset {asset.key!r} of {self.scene}: {err}") from err

    @stamina.retry(on=again, attempts=TRIES, wait_initial=1, wait_max=30)
    def _from(self, place: Place, asset: Asset, key: str) -> Moved:
        log.debug("%s: %s is read since %s", self.scene, said(place.href), place.why)
        within = copy_within(asset, place, key, self.archive, self.access)
        return within or fetch(asset, place, key, self.archive, self.access)
