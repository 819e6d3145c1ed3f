"""estimate: what an ingest will copy and need, from the documents and a small sample."""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import mean
from typing import Any, cast

from chipmill.errors import ChipmillError, SceneError
from chipmill.formats import layout
from chipmill.formats.item_reading import read_item
from chipmill.io.source import Source, open_source
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.choice import choose
from chipmill.model.estimate import Need, SceneNeed, chip_bytes, chips_of, total
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.places import places
from chipmill.model.scene import Asset, SceneRef
from chipmill.sensors import sensor

SAMPLE = 4
"""Assets of each key that are asked for their size, where items do not state it."""
_MEASURED = 32 * 2**20
"""Bytes that are read to measure the throughput."""
_READS_AT_ONCE = 16
_DTYPES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "float32": 4}
_ITEM_SIZE = 2
"""Bytes of a pixel where the item does not state its type: most sensors deliver uint16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What an ingest will copy and need."""

    need: Need
    unusable: dict[str, str]
    """Scenes that will be quarantined, and why."""
    throughput: float | None
    """Bytes a second; None: nothing could be read."""
    is_measured: bool
    """Whether the throughput was measured on a sample now; else somebody set it."""

    @property
    def seconds(self) -> float | None:
        """How long the copy will take."""
        return self.need.bytes / self.throughput if self.throughput else None


def estimate(
    request: IngestRequest,
    scenes: Sequence[SceneRef],
    archive: Store,
    *,
    access: Access,
    throughput: float | None = None,
) -> Estimate:
    """Estimate an ingest of scenes that a search has found.

    Args:
        request: Which bands, in chips of which size.
        scenes: What the search found.
        archive: Holds their documents.
        access: What may be reached for a sample.
        throughput: Bytes a second; None: measure it.
    """

    def read(scene: SceneRef) -> tuple[SceneNeed, dict[str, Asset]] | str:
        return _need(scene, request, archive)

    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        found = list(pool.map(read, scenes))
    usable = [each for each in found if not isinstance(each, str)]
    sampler = _Sampler(archive.url, access)
    sample, seen = _sampled([(need, assets) for need, assets in usable], sampler)
    measured = throughput or sampler.throughput(seen)
    return Estimate(
        need=total([need for need, _ in usable], sample),
        unusable={
            str(scene): reason
            for scene, reason in zip(scenes, found, strict=True)
            if isinstance(reason, str)
        },
        throughput=measured,
        is_measured=throughput is None,
    )


def _need(
    scene: SceneRef, request: IngestRequest, archive: Store
) -> tuple[SceneNeed, dict[str, Asset]] | str:
    """Read what one scene needs, or why it cannot be used."""
    kind = sensor(scene.collection)
    item = json.loads(archive.get(layout.source_item_key(scene.collection, scene.item)))
    try:
        parsed = read_item(item)
        choice = choose(parsed, kind, bands=request.bands)
    except SceneError as err:
        return str(err)
    raw = cast("dict[str, dict[str, Any]]", item["assets"])
    finest = min(choice.bands, key=lambda source: source.band.gsd)
    chips = chips_of(
        _shape(raw[finest.asset.key], item["properties"]),
        bbox=parsed.bbox,
        gsd=finest.band.gsd or float(item["properties"].get("gsd") or 0),
        chip_size=request.chip_size,
    )
    width = max(_item_size(raw[source.asset.key]) for source in choice.bands)
    need = SceneNeed(
        chips=chips,
        sizes={asset.key: asset.size for asset in choice.assets},
        chip_bytes=chip_bytes(choice, chip_size=request.chip_size, item_size=width),
    )
    return need, {asset.key: asset for asset in choice.assets}


def _shape(asset: dict[str, Any], properties: dict[str, Any]) -> tuple[int, int] | None:
    shape = asset.get("proj:shape") or properties.get("proj:shape")
    return (int(shape[0]), int(shape[1])) if shape else None


def _item_size(asset: dict[str, Any]) -> int:
    bands = cast("list[dict[str, Any]]", asset.get("raster:bands") or asset.get("bands") or [{}])
    stated = {str(each.get("data_type")) for each in (asset, *bands)}
    return max((_DTYPES[name] for name in stated & _DTYPES.keys()), default=_ITEM_SIZE)


def _sampled(
    needs: Sequence[tuple[SceneNeed, dict[str, Asset]]], sampler: "_Sampler"
) -> tuple[dict[str, float], list[Asset]]:
    """Ask providers for the size of some assets of each key that does not state it.

    Returns:
        The mean bytes by key; and an asset or two to measure by.
    """
    silent = defaultdict[str, list[Asset]](list)
    for need, assets in needs:
        for key, asset in assets.items():
            if need.sizes[key] is None:
                silent[key].append(asset)
    # Spread over the list, which is sorted by id and so by place or time.
    asked = [
        asset
        for every in silent.values()
        for asset in every[:: max(1, len(every) // SAMPLE)][:SAMPLE]
    ]
    sizes = defaultdict[str, list[int]](list)
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        for asset, size in zip(asked, pool.map(sampler.size, asked), strict=True):
            if size:
                sizes[asset.key].append(size)
    stated = [asset for _, assets in needs[:1] for asset in assets.values()]
    return {key: mean(every) for key, every in sizes.items()}, (stated or asked)[:2]


@dataclass(frozen=True, slots=True)
class _Sampler:
    """Asks the places that a copy would read, under the rules of a copy."""

    archive: str
    access: Access

    def size(self, asset: Asset) -> int | None:
        """Ask for the size of a file; the transfer ends before its content."""
        try:
            with self._opened(asset) as source:
                return source.size
        except ChipmillError:
            return None

    def throughput(self, assets: Sequence[Asset]) -> float | None:
        """Read the beginning of some files and tell the bytes a second."""
        for asset in assets:
            begin, read = time.perf_counter(), 0
            try:
                with self._opened(asset) as source:
                    for piece in source.pieces:
                        read += len(piece)
                        if read >= _MEASURED:
                            break
            except ChipmillError:
                continue
            if read:
                return read / (time.perf_counter() - begin)
        return None

    def _opened(self, asset: Asset) -> AbstractContextManager[Source]:
        place = places(asset, archive=self.archive, access=self.access)[0]
        return open_source(place.href, self.access, pays=place.requester_pays)
