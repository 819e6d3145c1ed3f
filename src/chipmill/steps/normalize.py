"""normalize: which mean and deviation a plan's packs carry, and how items get theirs."""

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from chipmill.errors import AlreadyThereError, MissingError, StoreError
from chipmill.formats import layout
from chipmill.formats.pack import Normalization, PackBand, PackHeader
from chipmill.formats.plan import Plan
from chipmill.formats.statistics import (
    BandStatistics,
    ChosenStatistics,
    DataStatistics,
    decode_choice,
    decode_statistics,
)
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.sensors import sensor
from chipmill.steps.merge import load_snapshot
from chipmill.steps.stats import newest_statistics

log = logging.getLogger(__name__)

ITEMS_AT_ONCE = 16


def statistics_of(plan: Plan, archive: Store) -> DataStatistics | None:
    """Give the statistics that all megabatches of a plan carry; None: the tables of the sensors.

    The first megabatch to be staged takes the newest statistics of the plan's snapshot and keeps
    the choice: figures that changed in the middle of an epoch would change the training unnoticed.
    """
    key = layout.plan_normalization_key(plan.plan)
    try:
        chosen = decode_choice(archive.get(key), where=archive.href(key))
    except MissingError:
        newest = newest_statistics(archive, plan.snapshot)
        choice = ChosenStatistics(statistics=newest.statistics if newest else None)
        with suppress(AlreadyThereError):
            archive.create(key, choice.encode())
        chosen = decode_choice(archive.get(key), where=archive.href(key))
    if chosen.statistics is None:
        return None
    found = layout.statistics_key(plan.snapshot, chosen.statistics)
    return decode_statistics(archive.get(found), where=archive.href(found))


def normalized(header: PackHeader, statistics: DataStatistics | None) -> PackHeader:
    """Put mean and deviation into the header of a scene's pack.

    They are of the statistics where these have every band of the scene, else of the sensor's table;
    never of both, since one model input should have one origin.
    """
    measured = statistics.of(header.collection) if statistics else {}
    if statistics is None or any(_unmeasured(measured, band.name) for band in header.bands):
        return _by_table(header)
    bands = [_by_statistics(band, measured[band.name]) for band in header.bands]
    origin = Normalization(
        source="snapshot",
        snapshot=statistics.snapshot,
        statistics=statistics.statistics,
        decibels=measured[header.bands[0].name].decibels,
    )
    return header.model_copy(update={"bands": tuple(bands), "normalization": origin})


def write_back(statistics: DataStatistics, archive: Store) -> int:
    """Put mean and deviation into the items of a snapshot; gives how many items have changed.

    Two properties change and nothing else, and the chip index of the scene stays what it is.
    """
    snapshot = load_snapshot(archive, statistics.snapshot, chip_size=statistics.chip_size)
    table = read_columns(archive, snapshot.scene_files, ["collection", "item_key"])
    measured = {band.collection for band in statistics.bands}
    rows = table.to_pylist()
    keys = [str(row["item_key"]) for row in rows if row["collection"] in measured]
    write = partial(_write_back, statistics=statistics, archive=archive)
    with ThreadPoolExecutor(ITEMS_AT_ONCE) as pool:
        changed = sum(pool.map(write, keys))
    log.info("%d of %d items have new mean and deviation", changed, len(keys))
    return changed


def _unmeasured(measured: Mapping[str, BandStatistics], band: str) -> bool:
    return band not in measured or measured[band].mean is None


def _by_table(header: PackHeader) -> PackHeader:
    kind = sensor(header.collection)
    table = {band.name: band for band in kind.bands}
    bands = [
        band.model_copy(update={"mean": known.mean, "std": known.std})
        if (known := table.get(band.name))
        else band
        for band in header.bands
    ]
    origin = Normalization(decibels=kind.decibels)
    return header.model_copy(update={"bands": tuple(bands), "normalization": origin})


def _by_statistics(band: PackBand, found: BandStatistics) -> PackBand:
    mean, std = _own(found, scale=band.scale, offset=band.offset)
    return band.model_copy(update={"mean": mean, "std": std})


def _own(
    found: BandStatistics, *, scale: float, offset: float
) -> tuple[float | None, float | None]:
    """Turn physical mean and deviation into a scene's digital numbers; decibels stay."""
    if found.mean is None or found.std is None or found.decibels:
        return found.mean, found.std
    return (found.mean - offset) / scale, found.std / scale


def _write_back(key: str, *, statistics: DataStatistics, archive: Store) -> bool:
    """Write one item anew where its figures differ."""
    raw = archive.get(key)
    item: dict[str, Any] = json.loads(raw)
    try:
        measured = statistics.of(item["collection"])
        bands = [band for asset in item["assets"].values() for band in asset.get("bands", ())]
        figures = {
            band["name"]: _own(
                measured[band["name"]], scale=band["raster:scale"], offset=band["raster:offset"]
            )
            for band in bands
            if band["name"] in measured
        }
        for place, name in enumerate(("normalization_average", "normalization_standard_deviation")):
            for band, pair in figures.items():
                item["properties"][name][band] = pair[place]
    except (KeyError, TypeError) as err:
        raise StoreError(
            f"{archive.href(key)} is not an item that chipmill wrote (it lacks {err}); rewrite the "
            "scene"
        ) from err
    written = json.dumps(item, indent=1).encode()
    if written == raw:
        return False
    archive.put(key, written)
    return True
