"""stats: mean and deviation of each band over the usable chips of a snapshot, exactly."""

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from chipmill.errors import AlreadyThereError, MissingError, RequestError
from chipmill.formats import layout
from chipmill.formats.archived_item import read_archived
from chipmill.formats.statistics import (
    VERSION,
    BandStatistics,
    DataStatistics,
    SceneSums,
    decode_statistics,
    decode_sums,
    short_hash,
)
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.model.moments import Moments
from chipmill.model.scene import SceneRef
from chipmill.model.stats_request import StatsRequest
from chipmill.sensors import sensor
from chipmill.steps.filtered import read_filtered
from chipmill.steps.measure import measure_chips
from chipmill.steps.merge import load_snapshot

log = logging.getLogger(__name__)

SCENES_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableChips:
    """A scene of a snapshot and those of its chips that are measured."""

    scene: SceneRef
    digest: str
    """Of the scene in the chip index."""
    row: NDArray[np.uint16]
    col: NDArray[np.uint16]
    """Shape (chips,), row-major."""


def resolved(request: StatsRequest, archive: Store) -> StatsRequest:
    """Name the snapshot of a request, where it says `latest`.

    Raises:
        RequestError: There is none.
    """
    snapshot = load_snapshot(archive, request.snapshot, chip_size=request.chip_size)
    return request.model_copy(
        update={"snapshot": snapshot.snapshot, "chip_size": snapshot.chip_size}
    )


def usable_chips(
    request: StatsRequest, archive: Store, *, scenes: Sequence[SceneRef] = ()
) -> list[UsableChips]:
    """List the scenes of a snapshot that have usable chips, sorted by name.

    Args:
        request: Which chips are usable.
        archive: Where the snapshot is.
        scenes: Only these; empty: all.
    """
    snapshot = load_snapshot(archive, request.snapshot, chip_size=request.chip_size)
    usable = _usable(request, scenes)
    chips = read_filtered(archive, snapshot.chip_files, _CHIPS, request.filter, where=usable)
    about = read_columns(archive, snapshot.scene_files, ["scene", "collection", "item", "digest"])
    rows = {str(row["scene"]): row for row in about.to_pylist()}
    if len(chips) == 0:
        return []
    column = cast("pa.DictionaryArray[Any, Any]", chips["scene"].combine_chunks())
    codes, names = column.indices.to_numpy(), column.dictionary.to_pylist()
    row, col = chips["row"].to_numpy(), chips["col"].to_numpy()
    order = np.lexsort((col, row, codes))
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    found = [
        _chips_of(rows[str(names[codes[place[0]]])], row[place], col[place])
        for place in np.split(order, starts[1:])
    ]
    return sorted(found, key=lambda chips: str(chips.scene))


def scene_sums(chips: UsableChips, archive: Store, *, chip_size: int) -> tuple[SceneSums, bool]:
    """Measure the usable chips of a scene, or find what was measured of the same chips.

    Returns:
        The record, and whether pixels were read for it.

    Raises:
        SceneError: A file of the scene is damaged.
    """
    item = archive.get(layout.item_key(chips.scene.collection, chips.scene.item))
    scene = read_archived(json.loads(item), key_of=archive.key_of)
    in_decibels = sensor(chips.scene.collection).decibels
    bands = [
        [band.name, band.index, band.file.key, str(band.file.nodata), band.scale, band.offset]
        for band in scene.bands
    ]
    places = [chips.row.tolist(), chips.col.tolist()]
    name = short_hash(json.dumps([VERSION, chips.digest, in_decibels, bands, chip_size, places]))
    key = layout.scene_statistics_key(chips.scene.collection, chips.scene.item, name)
    with suppress(MissingError):
        return decode_sums(archive.get(key), where=archive.href(key)), False
    record = measure_chips(
        scene,
        archive,
        chip_size=chip_size,
        row=chips.row,
        col=chips.col,
        in_decibels=in_decibels,
    )
    archive.put(key, record.encode())
    return record, True


def snapshot_statistics(request: StatsRequest, archive: Store) -> DataStatistics:
    """Measure a data set, and keep the result beside its snapshot; asked again it is found.

    Raises:
        RequestError: There is no such snapshot, or no chip of it is usable.
        SceneError: A file of a scene is damaged.
    """
    request = resolved(request, archive)
    name = statistics_name(request)
    key = layout.statistics_key(request.snapshot, name)
    with suppress(MissingError):
        return decode_statistics(archive.get(key), where=archive.href(key))
    chips = usable_chips(request, archive)
    if not chips:
        raise RequestError(
            f"no chip of snapshot {request.snapshot} is usable; allow more cloud or name other "
            "collections"
        )
    with ThreadPoolExecutor(SCENES_AT_ONCE) as pool:
        measure = partial(scene_sums, archive=archive, chip_size=request.chip_size)
        found = list(pool.map(measure, chips))
    records = [record for record, _ in found]
    log.info("%d scenes measured, %d were known", len(records), sum(not new for _, new in found))
    document = DataStatistics(
        statistics=name,
        snapshot=request.snapshot,
        chip_size=request.chip_size,
        max_cloud=request.max_cloud,
        max_nodata=request.max_nodata,
        collections=request.collections,
        filter=request.filter.root,
        scenes=len(records),
        chips=sum(record.chips for record in records),
        bands=merged(records),
        created=datetime.now(UTC),
    )
    with suppress(AlreadyThereError):
        archive.create(key, document.encode())
    return decode_statistics(archive.get(key), where=archive.href(key))


def merged(records: Sequence[SceneSums]) -> tuple[BandStatistics, ...]:
    """Merge the records of scenes, in any order, by collection and band."""
    groups: dict[tuple[str, str, bool], list[tuple[SceneSums, int]]] = {}
    for record in records:
        for number, band in enumerate(record.bands):
            key = (record.collection, band.band, record.decibels)
            groups.setdefault(key, []).append((record, number))
    return tuple(_band(key, members) for key, members in sorted(groups.items()))


def statistics_name(request: StatsRequest) -> str:
    """Name statistics by everything that decides them."""
    said = request.model_dump(mode="json", exclude={"write_back", "filter"})
    if request.filter:
        said["filter"] = request.filter.canonical
    return short_hash(json.dumps([VERSION, said], sort_keys=True))


def newest_statistics(archive: Store, snapshot: str) -> DataStatistics | None:
    """Read the statistics of a snapshot that were made last; None where there are none."""
    keys = archive.keys(layout.statistics_prefix(snapshot))
    found = [decode_statistics(archive.get(key), where=archive.href(key)) for key in keys]
    return max(found, key=lambda each: (each.created, each.statistics), default=None)


_CHIPS = ["scene", "row", "col"]


def _chips_of(
    about: dict[str, Any], row: NDArray[np.uint16], col: NDArray[np.uint16]
) -> UsableChips:
    scene = SceneRef(collection=about["collection"], item=about["item"])
    return UsableChips(scene=scene, digest=about["digest"], row=row, col=col)


def _usable(request: StatsRequest, scenes: Sequence[SceneRef]) -> "pc.Expression":
    """Say in words of a table which chips are usable; fractions are compared as they are kept."""
    limit = partial(pa.scalar, type=pa.float32())
    usable = (pc.field("cloud_fraction") <= limit(request.max_cloud)) & (
        pc.field("nodata_fraction") <= limit(request.max_nodata)
    )
    if request.collections:
        usable &= pc.field("collection").cast(pa.string()).isin(list(request.collections))
    if scenes:
        usable &= pc.field("scene").cast(pa.string()).isin([str(scene) for scene in scenes])
    return usable


def _band(key: tuple[str, str, bool], members: Sequence[tuple[SceneSums, int]]) -> BandStatistics:
    collection, name, decibels = key
    bands = [record.bands[number] for record, number in members]
    found = Moments()
    for band in bands:
        # Decibels are of the physical value already.
        found += band.moments if decibels else band.moments.scaled(band.scale, band.offset)
    return BandStatistics(
        collection=collection,
        band=name,
        decibels=decibels,
        scenes=len(members),
        chips=sum(record.chips for record, _ in members),
        count=found.count,
        nodata=sum(band.nodata for band in bands),
        not_positive=sum(band.not_positive for band in bands),
        minimum=found.minimum if found.count else None,
        maximum=found.maximum if found.count else None,
        mean=found.mean,
        std=found.std,
    )
