"""plan: what a training run will see of a snapshot, in megabatches; the same on every machine."""

import hashlib
import json
import logging
from dataclasses import replace
from itertools import groupby
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from chipmill.errors import MissingError, RequestError
from chipmill.formats import layout
from chipmill.formats.plan import (
    Plan,
    PlannedMegabatch,
    PlannedScene,
    decode_plan,
    decode_scenes,
    encode_scenes,
)
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.model.deal import deal_scenes
from chipmill.model.order import ORDER_VERSION, minibatch_order
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.merge import load_snapshot

log = logging.getLogger(__name__)

DEFAULT_RATIO = 10
LEAST_RATIO = 5
"""Scenes of a megabatch for each chip of a minibatch: the origin specification asks for 5 to 10."""
PACK_BYTES = 64 * 1024
CHIP_BYTES = 256
"""Most bytes that a pack adds to its pixels: once, and for each chip (ids, places, alignment)."""


def make_plan(request: PlanRequest, archive: Store) -> Plan:
    """Plan one epoch and keep the plan in the archive; asked again it finds the same plan.

    Raises:
        RequestError: The sizes do not fit together, or no chip is usable.
    """
    scenes_per_megabatch = _megabatch_size(request)
    snapshot = load_snapshot(archive, request.snapshot, chip_size=request.chip_size)
    name = plan_name(request, snapshot.snapshot)
    key = layout.plan_key(name)
    if archive.size(key) is not None:
        return decode_plan(archive.get(key), where=archive.href(key))
    chips, left_out = _usable(request, read_columns(archive, snapshot.chip_files, _CHIP_COLUMNS))
    scenes = _scenes(chips, read_columns(archive, snapshot.scene_files, _SCENE_COLUMNS))
    if not scenes:
        raise RequestError(
            f"no chip of snapshot {snapshot.snapshot} is usable ({_words(left_out)}); allow more "
            "cloud, name other collections or ingest other scenes"
        )
    dealt = deal_scenes(
        np.array([scene.group for scene in scenes]),
        megabatch=scenes_per_megabatch,
        seed=request.seed,
        epoch=request.epoch,
    )
    scenes = [replace(scene, megabatch=n) for scene, n in zip(scenes, dealt.tolist(), strict=True)]
    scenes.sort(key=lambda scene: (scene.megabatch, scene.collection, scene.scene))
    plan = _plan(request, snapshot, name, scenes, left_out)
    archive.put(layout.plan_scenes_key(name), encode_scenes(scenes))
    archive.put(key, plan.encode())
    log.info("plan %s: %d megabatches, %d usable chips", name, len(plan.megabatches), plan.usable)
    return plan


def load_plan(archive: Store, name: str) -> Plan:
    """Read a plan.

    Raises:
        RequestError: There is none of this name.
    """
    key = layout.plan_key(name)
    try:
        return decode_plan(archive.get(key), where=archive.href(key))
    except MissingError:
        raise RequestError(f"there is no plan {name!r} in {archive.url}; plan first") from None


def load_scenes(archive: Store, plan: str, megabatch: int) -> list[PlannedScene]:
    """Read the scenes of one megabatch of a plan, with their chips."""
    return decode_scenes(archive.get(layout.plan_scenes_key(plan)), megabatch=megabatch)


def plan_name(request: PlanRequest, snapshot: str) -> str:
    """Name a plan by everything that decides it: 16 hex digits of a SHA-256."""
    said = request.model_dump(mode="json", exclude={"few_scenes"}) | {
        "snapshot": snapshot,
        "megabatch": _megabatch_size(request),
        "order_version": ORDER_VERSION,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _megabatch_size(request: PlanRequest) -> int:
    size = request.megabatch or DEFAULT_RATIO * request.minibatch
    if size < LEAST_RATIO * request.minibatch and not request.few_scenes:
        raise RequestError(
            f"a megabatch of {size} scenes is too small for minibatches of {request.minibatch} "
            f"chips: its minibatches would all draw on the same scenes; use at least "
            f"{LEAST_RATIO * request.minibatch} scenes, smaller minibatches, or allow few scenes"
        )
    return size


# The geometries are nine tenths of the bytes: they are not read.
_CHIP_COLUMNS = ["scene", "collection", "row", "col", "cloud_fraction", "nodata_fraction"]
_PLACE = ("row", "col", "cloud_fraction", "nodata_fraction")
_SCENE_COLUMNS = ["scene", "collection", "item", "bands", "chip_bytes"]


def _usable(request: PlanRequest, chips: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Keep the usable chips and count the others, each under its first reason."""
    cloud = chips["cloud_fraction"].to_numpy() > np.float32(request.max_cloud)
    nodata = chips["nodata_fraction"].to_numpy() > np.float32(request.max_nodata)
    other = np.zeros(len(chips), np.bool_)
    if request.collections:
        wanted = pc.is_in(chips["collection"].cast(pa.string()), pa.array(request.collections))
        other = ~wanted.to_numpy()
    left_out = {
        "other collection": int(other.sum()),
        "nodata": int((nodata & ~other).sum()),
        "cloud": int((cloud & ~nodata & ~other).sum()),
    }
    return chips.filter(pa.array(~(cloud | nodata | other))), left_out


def _scenes(chips: pa.Table, scenes: pa.Table) -> list[PlannedScene]:
    """Gather the chips of each scene, sorted by collection and scene; in no megabatch yet.

    A group is a collection with one set of bands of one size: its chips have one shape.
    """
    if len(chips) == 0:
        return []
    column = cast("pa.DictionaryArray[Any, Any]", chips["scene"].combine_chunks())
    codes = column.indices.to_numpy()
    place = {name: chips[name].to_numpy() for name in _PLACE}
    order = np.lexsort((place["col"], place["row"], codes))
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    split = {name: np.split(values[order], starts[1:]) for name, values in place.items()}
    about = {row["scene"]: row for row in scenes.to_pylist()}
    names = column.dictionary.to_pylist()
    rows = [about[names[code]] for code in codes[order[starts]]]
    kinds = [(row["collection"], tuple(row["bands"]), row["chip_bytes"]) for row in rows]
    groups = sorted(set(kinds))
    found = [
        PlannedScene(
            megabatch=-1,
            collection=row["collection"],
            scene=row["item"],
            group=groups.index(kinds[number]),
            chip_bytes=row["chip_bytes"],
            **{name: split[name][number] for name in _PLACE},
        )
        for number, row in enumerate(rows)
    ]
    return sorted(found, key=lambda scene: (scene.collection, scene.scene))


def _plan(
    request: PlanRequest,
    snapshot: Snapshot,
    name: str,
    scenes: list[PlannedScene],
    left_out: dict[str, int],
) -> Plan:
    megabatches = tuple(
        _megabatch(request, number, list(members))
        for number, members in groupby(scenes, lambda scene: scene.megabatch)
    )
    if not any(planned.minibatches for planned in megabatches):
        raise RequestError(
            f"no minibatch of {request.minibatch} chips of different scenes can be made: the "
            f"megabatches have {', '.join(str(planned.scenes) for planned in megabatches)} scenes; "
            "use smaller minibatches, more scenes, or spread the chips that do not fit"
        )
    return Plan(
        plan=name,
        snapshot=snapshot.snapshot,
        seed=request.seed,
        epoch=request.epoch,
        minibatch=request.minibatch,
        megabatch_scenes=_megabatch_size(request),
        leftover=request.leftover,
        order_version=ORDER_VERSION,
        chip_size=snapshot.chip_size,
        usable=sum(planned.chips for planned in megabatches),
        left_out=left_out,
        megabatches=megabatches,
    )


def _megabatch(request: PlanRequest, number: int, scenes: list[PlannedScene]) -> PlannedMegabatch:
    counts = np.array([len(scene.row) for scene in scenes])
    order = minibatch_order(
        counts,
        np.array([scene.group for scene in scenes]),
        size=request.minibatch,
        seed=request.seed,
        epoch=request.epoch,
        megabatch=number,
        leftover=request.leftover,
    )
    pixels = int((counts * [scene.chip_bytes + CHIP_BYTES for scene in scenes]).sum())
    return PlannedMegabatch(
        scenes=len(scenes),
        chips=int(counts.sum()),
        minibatches=len(order),
        left_over=int(order.left_over.sum()),
        size=pixels + PACK_BYTES * len(scenes),
    )


def _words(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} left out for {reason}" for reason, count in left_out.items())
