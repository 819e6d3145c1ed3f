"""plan: what a training run will see of a snapshot, in megabatches; the same on every machine."""

import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from chipmill.errors import MissingError, RequestError
from chipmill.formats import layout
from chipmill.formats.plan import (
    PLAN_SCENES,
    Plan,
    PlannedMegabatch,
    PlannedScene,
    PlannedShare,
    decode_plan,
    decode_scenes,
)
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import PART_BYTES, Store
from chipmill.io.tables import read_columns
from chipmill.model.order import ORDER_VERSION, fill_minibatches, left_over
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.deal import Deal, deal_usable, numbered, write_scenes
from chipmill.steps.history import load_snapshot
from chipmill.steps.usable import read_usable

log = logging.getLogger(__name__)

DEFAULT_RATIO = 10
LEAST_RATIO = 5
"""Scenes of a megabatch for each chip of a minibatch: the origin specification asks for 5 to 10."""
PACK_BYTES = 64 * 1024
CHIP_BYTES = 2048
"""Most bytes that a pack adds to its pixels: once, and for each chip (ids, places, the record batch
that a compressed pack has for each)."""
CHIP_SHARE = 4096
"""And one byte for so many of pixels: what a codec adds to what it cannot compress."""


def make_plan(request: PlanRequest, archive: Store) -> Plan:
    """Plan one epoch and keep the plan in the archive; asked again it finds the same plan.

    Raises:
        RequestError: The sizes do not fit together, or no chip is usable.
    """
    size = _megabatch_size(request)
    snapshot = load_snapshot(archive, request.snapshot, chip_size=request.chip_size)
    name = plan_name(request, snapshot.snapshot)
    key = layout.plan_key(name)
    if archive.size(key) is not None:
        return decode_plan(archive.get(key), where=archive.href(key))
    usable = read_usable(request, archive, snapshot)
    planned = deal_usable(request, usable, megabatch=size)
    plan = _plan(request, snapshot, name, planned)
    with tempfile.TemporaryDirectory(prefix="chipmill-") as folder:
        path = Path(folder, "scenes.parquet")
        write_scenes(path, planned)
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(PART_BYTES), b"")
            archive.write(layout.plan_scenes_key(name), chunks)
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


def list_plans(archive: Store) -> list[Plan]:
    """Read all plans of an archive, by name."""
    keys = [key for key in archive.keys(layout.PLANS) if key.endswith("/plan.json")]
    return [decode_plan(archive.get(key), where=archive.href(key)) for key in sorted(keys)]


def load_scenes(archive: Store, plan: str, megabatch: int) -> list[PlannedScene]:
    """Read the scenes of one megabatch of a plan, with their chips."""
    where = pc.field("megabatch") == megabatch
    names = PLAN_SCENES.names
    return decode_scenes(
        read_columns(archive, [layout.plan_scenes_key(plan)], names, filters=where)
    )


def plan_name(request: PlanRequest, snapshot: str) -> str:
    """Name a plan by everything that decides it: 16 hex digits of a SHA-256."""
    said = json.dumps(_said(request, snapshot), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _said(request: PlanRequest, snapshot: str) -> dict[str, Any]:
    """Say all that decides a plan; what is written in several ways, in one."""
    # Said only where it is asked for: other plans keep the names that they had before it was.
    unsaid = {"few_scenes"} if request.mixed else {"few_scenes", "mixed"}
    return request.model_dump(mode="json", exclude=unsaid) | {
        "snapshot": snapshot,
        "megabatch": _megabatch_size(request),
        "filter": request.filter.canonical,
        "order_version": ORDER_VERSION,
    }


def _megabatch_size(request: PlanRequest) -> int:
    size = request.megabatch or DEFAULT_RATIO * request.minibatch
    if size < LEAST_RATIO * request.minibatch and not request.few_scenes:
        raise RequestError(
            f"a megabatch of {size} scenes is too small for minibatches of {request.minibatch} "
            f"chips: its minibatches would all draw on the same scenes; use at least "
            f"{LEAST_RATIO * request.minibatch} scenes, smaller minibatches, or allow few scenes"
        )
    return size


def _plan(request: PlanRequest, snapshot: Snapshot, name: str, planned: Deal) -> Plan:
    megabatches = tuple(
        _megabatch(request, number, planned, part) for number, part in enumerate(planned.members())
    )
    if not any(each.minibatches for each in megabatches):
        raise RequestError(
            f"no minibatch of {request.minibatch} chips of different scenes can be made: the "
            f"megabatches have {', '.join(str(each.scenes) for each in megabatches[:10])} scenes; "
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
        mixed=request.mixed,
        order_version=ORDER_VERSION,
        chip_size=snapshot.chip_size,
        usable=sum(each.chips for each in megabatches),
        left_out=planned.left_out,
        request=_said(request, snapshot.snapshot),
        megabatches=megabatches,
    )


def _megabatch(request: PlanRequest, number: int, planned: Deal, part: slice) -> PlannedMegabatch:
    counts = planned.counts[part]
    fills = fill_minibatches(
        counts,
        planned.group[part],
        size=request.minibatch,
        leftover=request.leftover,
        key=(request.seed, request.epoch, number),
        mixed=request.mixed,
    )
    pixels = planned.scenes["chip_bytes"].to_numpy()[part]
    chip_bytes = pixels + pixels // CHIP_SHARE + CHIP_BYTES
    code, names = numbered(planned.scenes.slice(part.start, len(counts)).select(["collection"]))
    chips = np.bincount(code, weights=counts).astype(np.int64).tolist()
    shares = zip(names, np.bincount(code).tolist(), chips, strict=True)
    return PlannedMegabatch(
        scenes=len(counts),
        chips=int(counts.sum()),
        minibatches=sum(len(fill) for fill in fills),
        collections={name: PlannedShare(scenes=one, chips=all_) for name, one, all_ in shares},
        left_over=int(left_over(fills, len(counts)).sum()),
        size=int((counts * chip_bytes).sum()) + PACK_BYTES * len(counts),
    )
